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

/// Where the vectors of `data` come from, looking through datasets that hand rows on (mixture,
/// length_constraint, ...); null where that is not known. Throws ConfigError where its rows come
/// from several backbones, or some from none that is known: no head could be served on them.
const FeatureSource* feature_source(const Dataset& data);

}  // namespace meed
