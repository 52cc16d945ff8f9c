#include "algorithms/head_batch.h"

#include <ATen/ATen.h>

#include <charconv>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

[[noreturn]] void fail(const Example& example, const std::string& column,
                       const std::string& problem) {
  throw DataError("row " + std::to_string(example.row + 1) + ": \"" + column + "\" " + problem);
}

const std::vector<float>& vector_of(const VectorExample& example, const std::string& column) {
  const auto found = example.vectors.find(column);
  if (found == example.vectors.end())
    fail(example, column, "is missing: reward_head learns from rows of vectors");
  for (size_t i = 0; i < found->second.size(); ++i)
    if (!std::isfinite(found->second[i]))
      fail(example, column, "holds a number that is not finite at place " + std::to_string(i + 1));
  return found->second;
}

}  // namespace

at::Tensor vectors_of(ExampleRows rows, const std::string& column) {
  MEED_CHECK(!rows.empty(), "rows to make a batch of");
  const size_t D = vector_of(*rows[0], column).size();
  if (D == 0) fail(*rows[0], column, "has no numbers");
  const auto values_BD =
      at::empty({static_cast<int64_t>(rows.size()), static_cast<int64_t>(D)}, at::kFloat);
  auto* out = values_BD.mutable_data_ptr<float>();
  for (const auto& row : rows) {
    const auto& values = vector_of(*row, column);
    if (values.size() != D)
      fail(*row, column,
           "has " + std::to_string(values.size()) + " numbers, row " +
               std::to_string(rows[0]->row + 1) + " has " + std::to_string(D));
    std::memcpy(out, values.data(), D * sizeof(float));
    out += D;
  }
  return values_BD;
}

HeadInput head_input(ExampleRows rows, const std::string& column) {
  HeadInput input{.features_BD = vectors_of(rows, column)};
  const bool context = rows[0]->vectors.count("context_features") > 0;
  input.context_BD = context ? vectors_of(rows, "context_features") : input.features_BD;
  return input;
}

HeadInput candidate_input(const VectorExample& example, int64_t D) {
  const auto& values = vector_of(example, "candidate_features");
  if (values.empty() || static_cast<int64_t>(values.size()) % D != 0)
    fail(example, "candidate_features",
         "has " + std::to_string(values.size()) + " numbers, not vectors of " + std::to_string(D));
  HeadInput input{.features_BD = at::tensor(values).view({-1, D})};
  input.context_BD = input.features_BD;
  if (example.vectors.count("context_features") > 0) {
    const auto& context = vector_of(example, "context_features");
    input.context_BD = at::tensor(context).unsqueeze(0).expand(
        {input.features_BD.size(0), static_cast<int64_t>(context.size())});
  }
  return input;
}

std::optional<double> number_of(const Example& example, const std::string& name) {
  const auto found = example.extra.find(name);
  if (found == example.extra.end()) return std::nullopt;
  const auto& text = found->second;
  if (text.empty() || text == "null") return std::nullopt;
  if (text == "true" || text == "false") return text == "true" ? 1.0 : 0.0;
  double value = 0.0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size() || !std::isfinite(value))
    fail(example, name, "holds \"" + text + "\", not a number");
  return value;
}

std::vector<double> numbers_of(const Example& example, const std::string& name) {
  const auto found = example.extra.find(name);
  if (found == example.extra.end() || found->second.empty() || found->second == "null") return {};
  const auto json = nlohmann::json::parse(found->second, nullptr, /*allow_exceptions=*/false);
  if (!json.is_array()) fail(example, name, "is no list of numbers");
  std::vector<double> values;
  for (const auto& each : json) {
    if (!each.is_number()) fail(example, name, "is no list of numbers");
    values.push_back(each.get<double>());
  }
  return values;
}

}  // namespace meed
