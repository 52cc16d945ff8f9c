#include "libreward/decoding.h"

#include <gtest/gtest.h>

#include <cmath>

namespace meed {
namespace {

TEST(Decoding, BestOfNTakesTheFirstOfTheLargest) {
  const double nan = std::nan("");
  EXPECT_EQ(best_of_n(std::vector<double>{nan, 1, 3, 3}), 2u);
  EXPECT_EQ(best_of_n(std::vector<double>{nan, nan}), std::nullopt);
  EXPECT_EQ(best_of_n(std::vector<double>{}), std::nullopt);
}

TEST(Decoding, AnswersThatMeanTheSameVoteTogether) {
  const std::vector<std::string> texts = {"so #### 7", "the answer is 0.5", "#### 1/2", "no idea",
                                          "#### 7.0"};
  EXPECT_EQ(vote(texts, std::vector<double>{1, 1, 1, 1, 1.5}), 4u);
  EXPECT_EQ(vote(texts, std::vector<double>{0.1, 0.4, 0.5, 0.8, 0.2}), 2u);
  EXPECT_EQ(vote(texts, std::vector<double>{0, 0, std::nan(""), 0, -1}), std::nullopt);
}

TEST(Decoding, WeightsOfVotesAreRelativeToTheLargestReward) {
  const auto weights = vote_weights(std::vector<double>{1000.0, 999.0, std::nan("")}, 0.5);
  EXPECT_DOUBLE_EQ(weights[0], 1.0);
  EXPECT_DOUBLE_EQ(weights[1], std::exp(-2.0));
  EXPECT_TRUE(std::isnan(weights[2]));
}

}  // namespace
}  // namespace meed
