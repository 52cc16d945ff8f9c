#pragma once

#include <memory>
#include <string>

namespace meed {

class JsonReader;

/// Rewrites text before it is split: the "normalizer" of a tokenizer.json. Thread-safe.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(std::string& text) const = 0;
};

/// Throws DataError for a type that is not supported.
std::unique_ptr<Normalizer> make_normalizer(const JsonReader& json, int depth = 0);

}  // namespace meed
