#include "libreward/data/generated_rows.h"

#include <charconv>
#include <numeric>

namespace meed {

void GeneratedKeys::fields(FieldVisitor& v) {
  v.field("num_rows", num_rows, "How many rows.");
  v.field("seed", seed, "Decides the hidden reward and the rows.");
  v.choice(
      "split", split, {"train", "eval", "other"},
      "Rows of one split are drawn apart from those of another, under the same hidden reward.");
  v.require(num_rows > 0, "num_rows", "must be positive");
  v.require(seed >= 0, "seed", "must not be negative");
}

std::vector<double> NormalStream::vector(int64_t size, double scale) {
  std::vector<double> values(static_cast<size_t>(size));
  for (auto& value : values) value = scale * next();
  return values;
}

std::vector<double> NormalStream::direction(int64_t size, double length) {
  auto values = vector(size);
  const double norm = std::sqrt(dot(values, values));
  for (auto& value : values) value *= length / norm;
  return values;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

std::vector<float> as_floats(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

std::string as_column(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return {text, end};
}

std::string as_column(const std::vector<double>& values) {
  std::string text = "[";
  for (const double value : values) text += (text.size() > 1 ? ", " : "") + as_column(value);
  return text + "]";
}

Example GeneratedRows::get(int64_t index) const {
  Example example = rows_.at(static_cast<size_t>(index));
  example.row = index;
  return example;
}

NormalStream GeneratedRows::world(const GeneratedKeys& keys, uint64_t tag) {
  return NormalStream(mix_seed({static_cast<uint64_t>(keys.seed), tag}));
}

NormalStream GeneratedRows::row_stream(const GeneratedKeys& keys, uint64_t tag, int64_t row) {
  const uint64_t split = keys.split == "train" ? 1 : keys.split == "eval" ? 2 : 3;
  return NormalStream(
      mix_seed({static_cast<uint64_t>(keys.seed), tag, split, static_cast<uint64_t>(row)}));
}

Example GeneratedRows::pair(const std::vector<double>& chosen, const std::vector<double>& rejected,
                            double chosen_gold, double rejected_gold) {
  Example example;
  example.extra["chosen_features"] = vector_column(as_floats(chosen));
  example.extra["rejected_features"] = vector_column(as_floats(rejected));
  example.extra["chosen_gold"] = as_column(chosen_gold);
  example.extra["rejected_gold"] = as_column(rejected_gold);
  return example;
}

}  // namespace meed
