#include "libreward/models/reward_text.h"

#include <gtest/gtest.h>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

TEST(RewardText, IsSplitIntoStepsWithoutEmptyOnes) {
  EXPECT_EQ(split_steps("one\n\ntwo\n  \nthree", "\n"),
            (std::vector<std::string>{"one", "two", "three"}));
  EXPECT_EQ(split_steps("a ## b", " ## "), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(split_steps("", "\n").empty());
}

TEST(RewardText, TruncationTakesThePromptFirstThenWholeSteps) {
  RewardText text{{1, 2, 3}, {4, 5, 6, 7}, {1, 3}};
  EXPECT_EQ(truncate_reward_text(text, 5), 0);
  EXPECT_EQ(text.prompt_ids, (std::vector<int64_t>{3}));
  EXPECT_EQ(truncate_reward_text(text, 2), 1);
  EXPECT_EQ(text.completion_ids, (std::vector<int64_t>{6, 7}));
  EXPECT_EQ(text.step_ends, (std::vector<int64_t>{1}));
}

TEST(RewardFormat, ComesBackFromItsJson) {
  const RewardFormat format{.pooling = "steps",
                            .step_separator = ";",
                            .step_aggregate = "min",
                            .reference_column = "answer",
                            .probability = true};
  const auto back = RewardFormat::from_json(format.to_json("{type: mlp}"), "meed.json");
  EXPECT_EQ(back.pooling, "steps");
  EXPECT_EQ(back.step_separator, ";");
  EXPECT_EQ(back.step_aggregate, "min");
  EXPECT_EQ(back.reference_column, "answer");
  EXPECT_TRUE(back.probability);
  try {
    RewardFormat::from_json(R"({"pooling": "most"})", "meed.json");
    FAIL() << "no error";
  } catch (const DataError& e) {
    EXPECT_STREQ(e.what(), "meed.json: unknown pooling \"most\"");
  }
}

}  // namespace
}  // namespace meed
