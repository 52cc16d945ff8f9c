#include <gtest/gtest.h>

#include <cmath>

#include "libpolicy/core/error.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/distributed/communicator.h"
#include "libreward/reward_pipeline.h"

namespace meed {
namespace {

class Rewards : public ::testing::Test {
 protected:
  PipelineScores score(const std::string& yaml, const std::vector<std::string>& texts,
                       const std::string& answer = "12") {
    RolloutGroup group;
    group.example.extra["answer"] = answer;
    for (const auto& text : texts) {
      Completion completion;
      completion.text = text;
      completion.token_ids.assign(text.size(), 0);
      group.completions.push_back(completion);
    }
    RewardPipeline pipeline(ConfigNode::parse_string(yaml).items(), context_);
    return pipeline.score(std::vector<RolloutGroup>{group});
  }
  static std::vector<double> values(const at::Tensor& tensor) {
    const auto flat = tensor.contiguous();
    return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
  }
  std::unique_ptr<Communicator> comm_ = Communicator::create({}, at::kCPU, "single");
  NullMetrics metrics_;
  RunContext context_{.comm = *comm_, .metrics = metrics_};
};

TEST_F(Rewards, MathAnswerCountsOnlyTheRightNumber) {
  EXPECT_EQ(values(score("[{type: math_answer}]", {"#### 12", "so it is 12.", "13", "", "\xff\xfe"})
                       .rewards_PG),
            (std::vector<double>{1, 1, 0, 0, 0}));
  EXPECT_EQ(
      values(
          score("[{type: math_answer}]", {"#### 72"}, "48/2 = 24, 48+24 = 72\n#### 72").rewards_PG),
      (std::vector<double>{1}));
}

TEST_F(Rewards, MathAnswerInTheAskedFormOnly) {
  const std::string yaml = "[{type: math_answer, require_format: \"#### (-?[0-9]+)\"}]";
  EXPECT_EQ(values(score(yaml, {"#### 12", " #### 12\n", "12", "#### 12 apples", "#### 12\n#### 12",
                                "#### 13"})
                       .rewards_PG),
            (std::vector<double>{1, 1, 0, 0, 0, 0}));
}

TEST_F(Rewards, WeightsTransformsAndNamesCombine) {
  const auto scores = score(
      "[{type: math_answer, weight: 2}, {type: length_penalty, name: long, free_tokens: 2, "
      "scale_tokens: 1, weight: 0.5,"
      " transforms: [{type: clip, min: -1, max: 0}]}, {type: format, pattern: \"[0-9]+\"}]",
      {"12", "a 12 b"});
  EXPECT_EQ(values(scores.rewards_PG), (std::vector<double>{3.0, 1.5}));
  EXPECT_EQ(values(scores.components.at("long")), (std::vector<double>{0, -4}));
  EXPECT_EQ(values(scores.transformed.at("long")), (std::vector<double>{0, -1}));
}

TEST_F(Rewards, BadConfigurationSaysWhere) {
  EXPECT_THROW(score("[{type: math_answer}, {type: math_answer}]", {"1"}), ConfigError);
  EXPECT_THROW(score("[{type: format, pattern: \"(\"}]", {"1"}), ConfigError);
  EXPECT_THROW(score("[{type: math_answer, answer_column: gold}]", {"1"}), DataError);
}

}  // namespace
}  // namespace meed
