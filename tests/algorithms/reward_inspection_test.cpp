#include "algorithms/reward_inspection.h"

#include <gtest/gtest.h>

#include <cmath>

namespace meed {
namespace {

double logit(double p) { return std::log(p / (1.0 - p)); }

TEST(Reliability, BinsHoldConfidenceAndHowOftenItIsRight) {
  const std::vector<InspectedPair> pairs = {
      {.logit = logit(0.92)}, {.logit = logit(0.94)}, {.logit = logit(0.08)}, {.logit = 0.0}};
  const auto bins = reliability(pairs, 10);
  ASSERT_EQ(bins.size(), 10u);
  EXPECT_EQ(bins[8].count, 3);  // confidences 0.92, 0.94 and, the wrong way round, 0.92
  EXPECT_NEAR(bins[8].confidence, (0.92 + 0.94 + 0.92) / 3.0, 1e-9);
  EXPECT_NEAR(bins[8].accuracy, 2.0 / 3.0, 1e-9);
  EXPECT_EQ(bins[0].count, 1);  // a tie: half right
  EXPECT_NEAR(bins[0].accuracy, 0.5, 1e-9);
  EXPECT_NEAR(expected_calibration_error(bins), 0.75 * ((0.92 + 0.94 + 0.92) / 3.0 - 2.0 / 3.0),
              1e-9);
}

TEST(Quantile, LiesBetweenNeighbours) {
  EXPECT_NEAR(quantile({3, 1, 2}, 0.5), 2.0, 1e-12);
  EXPECT_NEAR(quantile({3, 1, 2}, 0.1), 1.2, 1e-12);
  EXPECT_NEAR(quantile({7}, 0.9), 7.0, 1e-12);
}

}  // namespace
}  // namespace meed
