#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "libpolicy/data/example.h"

namespace meed {

/// A row with vectors, where a head stands on features. They come as columns that hold a list of
/// numbers, and are moved here from `extra`: "features" (of prompt and completion),
/// "chosen_features", "rejected_features", "context_features" (of the prompt), and
/// "candidate_features" (several completions: a list of lists, kept end to end).
struct VectorExample : Example {
  std::map<std::string, std::vector<float>> vectors;
};

/// Throws DataError naming row and column where one is no list of numbers, or has none.
std::shared_ptr<const VectorExample> read_vectors(Example example);

/// The numbers as such a column holds them; float32 comes back bit for bit.
std::string vector_column(const std::vector<float>& values);

}  // namespace meed
