#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace meed {

class JsonReader;

/// The special tokens that a tokenizer.json's "post_processor" puts around one sequence.
struct PostProcessor {
  std::vector<int64_t> before, after;
};

/// Throws DataError for what is not supported.
PostProcessor make_post_processor(const JsonReader& json, int depth = 0);

}  // namespace meed
