#include "libpolicy/core/ranking.h"

#include <gtest/gtest.h>

#include <cmath>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

TEST(RankCorrelation, SeesOrderAloneAndRanksTies) {
  const std::vector<double> a = {1, 2, 3, 4}, cubes = {1, 8, 27, 64}, back = {4, 3, 2, 1};
  EXPECT_NEAR(rank_correlation(a, cubes), 1.0, 1e-12);
  EXPECT_NEAR(rank_correlation(a, back), -1.0, 1e-12);
  EXPECT_EQ(rank_correlation(a, std::vector<double>{5, 5, 5, 5}), 0.0);
  EXPECT_NEAR(rank_correlation(std::vector<double>{1, 1, 2, 3}, a), 0.948683, 1e-6);
  EXPECT_NEAR(rank_correlation(a, std::vector<double>{10, 20, 20, 40}), 0.948683, 1e-6);
  EXPECT_THROW(rank_correlation(a, std::vector<double>{1}), Error);
}

TEST(AreaUnderCurve, CountsPairsInOrderAndTiesByHalf) {
  const std::vector<double> scores = {0.1, 0.4, 0.35, 0.8};
  EXPECT_DOUBLE_EQ(area_under_curve(scores, {false, false, true, true}), 0.75);
  EXPECT_DOUBLE_EQ(area_under_curve(scores, {true, false, false, false}), 0.0);
  const std::vector<double> ties = {1.0, 1.0, 2.0};
  EXPECT_DOUBLE_EQ(area_under_curve(ties, {true, false, true}), 0.75);
  EXPECT_TRUE(std::isnan(area_under_curve(ties, {true, true, true})));
}

}  // namespace
}  // namespace meed
