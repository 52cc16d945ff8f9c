#include "libreward/data/feature_store.h"

namespace meed {

const FeatureSource* feature_source(const Dataset& data) {
  const auto* known = dynamic_cast<const HasFeatureSource*>(&data);
  return known == nullptr ? nullptr : &known->source();
}

}  // namespace meed
