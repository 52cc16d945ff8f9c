#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "libreward/data/vector_example.h"
#include "libreward/models/reward_head.h"

namespace meed {

/// Rows of vectors as tensors: what a head reads of B rows.
using ExampleRows = std::span<const std::shared_ptr<const VectorExample>>;

/// The vectors `column` of the rows, float32 [B, D]. Throws DataError naming the row where it is
/// missing, of another size than the first row's, or holds a number that is not finite.
at::Tensor vectors_of(ExampleRows rows, const std::string& column);
/// The same with the prompts' "context_features"; the features themselves where the rows have none.
HeadInput head_input(ExampleRows rows, const std::string& column);
/// "candidate_features" of one row, [n, D] for vectors of D numbers, with its context beside each.
HeadInput candidate_input(const VectorExample& example, int64_t D);

/// The number in the column `name` of `extra` ("true" and "false" count as 1 and 0); nullopt if it
/// is absent, empty or null. Throws DataError naming row and column for anything else.
std::optional<double> number_of(const Example& example, const std::string& name);
/// A list of numbers in a column; empty if it is absent.
std::vector<double> numbers_of(const Example& example, const std::string& name);

}  // namespace meed
