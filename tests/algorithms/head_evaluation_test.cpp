#include "algorithms/head_evaluation.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

class Rows final : public Dataset {
 public:
  using Columns = std::map<std::string, std::string>;
  explicit Rows(std::vector<Columns> rows) : rows_(std::move(rows)) {}
  int64_t size() const override { return static_cast<int64_t>(rows_.size()); }
  Example get(int64_t index) const override {
    Example example;
    example.extra = rows_.at(static_cast<size_t>(index));
    example.row = index;
    return example;
  }

 private:
  std::vector<Columns> rows_;
};

class Record final : public MetricsWriter {
 public:
  void record(const std::string& key, double value, Reduce, double) override {
    values[key] = value;
  }
  void flush(int64_t) override {}
  std::map<std::string, double> values;
};

/// What a head whose reward is the only feature does on the rows.
std::map<std::string, double> evaluated(const std::vector<Rows::Columns>& rows) {
  const auto heads = FeatureHeads::create(
      {.head = ConfigNode::parse_string("{type: linear}"), .features = 1, .seed = 1});
  heads->parameters().at("score.weight").fill_(1.0);
  Record record;
  evaluate_heads(*heads, Rows(rows), HeadObjective({}, "linear"), record);
  return record.values;
}

TEST(HeadEvaluation, TellsFlippedLabelsAndClusters) {
  const auto row = [](const std::string& chosen, const std::string& rejected,
                      const std::string& flipped, const std::string& cluster) {
    return Rows::Columns{{"chosen_features", chosen},
                         {"rejected_features", rejected},
                         {"flipped", flipped},
                         {"cluster", cluster}};
  };
  const auto values = evaluated({row("[2]", "[0]", "false", "a"), row("[1]", "[0]", "false", "a"),
                                 row("[0]", "[3]", "true", "b"), row("[0]", "[1]", "false", "b")});
  EXPECT_DOUBLE_EQ(values.at("eval_accuracy"), 0.5);
  EXPECT_DOUBLE_EQ(values.at("eval_accuracy/cluster_a"), 1.0);
  EXPECT_DOUBLE_EQ(values.at("eval_accuracy/cluster_b"), 0.0);
  EXPECT_DOUBLE_EQ(values.at("eval_flips/auc"), 1.0);
  EXPECT_DOUBLE_EQ(values.at("eval_flips/precision"), 0.5);
  EXPECT_DOUBLE_EQ(values.at("eval_flips/recall"), 1.0);
}

TEST(HeadEvaluation, PicksTheBestOfTheFirstN) {
  const Rows::Columns row = {{"candidate_features", "[[0], [1], [2], [5]]"},
                             {"candidate_gold", "[0, 3, 4, 1]"}};
  const auto values = evaluated({row});
  EXPECT_DOUBLE_EQ(values.at("eval_best_of/1"), 0.0);
  EXPECT_DOUBLE_EQ(values.at("eval_best_of/2"), 0.75);
  EXPECT_DOUBLE_EQ(values.at("eval_best_of/4"), 0.25);
  EXPECT_DOUBLE_EQ(values.at("eval_best_of_drop"), 0.5);
  EXPECT_DOUBLE_EQ(values.at("eval_member_best_of_all"), 0.25);
  // Mean of 1, 2, 5, 1, 4, 3.
  EXPECT_NEAR(values.at("eval_response_gap"), 16.0 / 6.0, 1e-6);
}

TEST(HeadEvaluation, NamesTheRowOfAColumnThatIsMissing) {
  const Rows::Columns whole = {
      {"chosen_features", "[1]"}, {"rejected_features", "[0]"}, {"flipped", "true"}};
  auto lacking = whole;
  lacking.erase("flipped");
  try {
    evaluated({whole, lacking});
    ADD_FAILURE();
  } catch (const DataError& e) {
    EXPECT_STREQ(e.what(), "row 2: column \"flipped\" is missing");
  }
}

}  // namespace
}  // namespace meed
