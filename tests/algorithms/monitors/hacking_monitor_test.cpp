#include "algorithms/monitors/hacking_monitor.h"

#include <gtest/gtest.h>

#include <cmath>

namespace meed {
namespace {

/// Index of the first alarm, or -1.
int first_alarm(const std::vector<double>& gold) {
  HackingMonitor monitor({.gold = "gold"});
  for (size_t i = 0; i < gold.size(); ++i) {
    const auto report = monitor.add({.proxy = static_cast<double>(i + 1),
                                     .gold = gold[i],
                                     .kl = static_cast<double>(i),
                                     .length = 10});
    if (!report.alarms.empty()) return static_cast<int>(i);
  }
  return -1;
}

TEST(HackingMonitor, FiresOnAGoldRewardThatFallsAndNeverOnOneThatRises) {
  const int alarm = first_alarm({1, 2, 3, 4, 5, 4, 3, 2, 1, 0});
  EXPECT_GT(alarm, 4);
  EXPECT_LE(alarm, 8);
  EXPECT_EQ(first_alarm({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}), -1);
}

TEST(HackingMonitor, KnowsThePeakAndItsKl) {
  HackingMonitor monitor({.gold = "gold"});
  MonitorReport report;
  for (const double gold : {1., 3., 2.})
    report = monitor.add({.proxy = 0, .gold = gold, .kl = gold * 10});
  EXPECT_EQ(report.peak_gold, 3.0);
  EXPECT_EQ(report.kl_at_peak, 30.0);
}

TEST(HackingMonitor, DriftIsRaisedOnceAndStateComesBack) {
  HackingMonitor first({}), second({});
  int alarms = 0;
  const double lengths[] = {100, 101, 99, 100, 100, 101, 180, 190, 200};
  for (const double length : lengths)
    alarms += static_cast<int>(first.add({.length = length}).alarms.size());
  EXPECT_EQ(alarms, 1);
  StateDict state;
  first.save(state);
  second.load(state);
  EXPECT_TRUE(second.add({.length = 210}).alarms.empty());
  EXPECT_GT(second.add({.length = 220}).length_drift, 3.0);
}

TEST(HackingMonitor, ABaselineOfFewPointsIsNotTakenForCertain) {
  // Exact normal deviates of Student's t: 6.6201 on 4 degrees of freedom and 3.0 at infinity have
  // the two-sided tail 0.0027.
  EXPECT_NEAR(deviations_from(0, 1, 5, 6.6201 * std::sqrt(1.2)), 3.0, 0.03);
  EXPECT_NEAR(deviations_from(0, 1, 100'000, 3.0), 3.0, 1e-3);
  EXPECT_NEAR(deviations_from(10, 2, 5, 4), -deviations_from(10, 2, 5, 16), 1e-12);
  // 4.1 deviations of the first five points, a change of 8 %, twice over.
  HackingMonitor healthy({});
  const double lengths[] = {4.85, 4.95, 4.76, 4.80, 4.91, 5.22, 5.23, 5.22, 5.30};
  for (const double length : lengths) EXPECT_TRUE(healthy.add({.length = length}).alarms.empty());
  // The same spread, doubled in the end.
  HackingMonitor hacked({});
  int alarms = 0;
  const double growing[] = {4.85, 4.95, 4.76, 4.80, 4.91, 5.2, 5.9, 6.8, 7.9, 9.0, 9.6};
  for (const double length : growing)
    alarms += static_cast<int>(hacked.add({.length = length}).alarms.size());
  EXPECT_EQ(alarms, 1);
}

TEST(HackingMonitor, RefusalsRiseByAShareOfAllCompletions) {
  const auto alarms = [](double last) {
    HackingMonitor monitor({});
    int count = 0;
    for (const double share : {0.0, 0.01, 0.0, 0.0, 0.01, last, last, last})
      count += static_cast<int>(monitor.add({.length = 10, .refusals = share}).alarms.size());
    return count;
  };
  EXPECT_EQ(alarms(0.1), 0);
  EXPECT_EQ(alarms(0.4), 1);
}

}  // namespace
}  // namespace meed
