#include "libreward/data/feature_store.h"

#include "libpolicy/core/error.h"
#include "libpolicy/data/hands_rows_on.h"

namespace meed {
namespace {

std::string in_words(const FeatureSource* source) {
  if (source == nullptr) return "a source that is not known";
  return source->model + " (pooling " + source->pooling + ", max_length " +
         std::to_string(source->max_length) + ")";
}

bool same(const FeatureSource* a, const FeatureSource* b) {
  return a == nullptr || b == nullptr ? a == b : *a == *b;
}

}  // namespace

const FeatureSource* feature_source(const Dataset& data) {
  if (const auto* known = dynamic_cast<const HasFeatureSource*>(&data)) return &known->source();
  const auto* wrapper = dynamic_cast<const HandsRowsOn*>(&data);
  const auto parts = wrapper == nullptr ? std::vector<const Dataset*>{} : wrapper->sources();
  const auto* first = parts.empty() ? nullptr : feature_source(*parts[0]);
  for (const auto* part : parts)
    if (const auto* own = feature_source(*part); !same(own, first))
      throw ConfigError("data: vectors of " + in_words(first) + " are mixed with those of " +
                        in_words(own) +
                        "; give every \"features\" the same model, pooling and max_length, or mix "
                        "the texts inside one \"features\"");
  return first;
}

}  // namespace meed
