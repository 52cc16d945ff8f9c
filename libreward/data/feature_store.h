#pragma once

#include "libpolicy/data/dataset.h"
#include "libreward/models/feature_heads.h"

namespace meed {

/// A dataset whose vectors are hidden states of a backbone: heads trained on it can be served on
/// texts.
class HasFeatureSource {
 public:
  virtual ~HasFeatureSource() = default;
  virtual const FeatureSource& source() const = 0;
};

/// Where the vectors of `data` come from; null where that is not known.
const FeatureSource* feature_source(const Dataset& data);

}  // namespace meed
