#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "libpolicy/core/error.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/distributed/communicator.h"
#include "libreward/reward_function.h"
#include "libreward/reward_transform.h"

namespace meed {
namespace {

using Steps = std::vector<double>;

class Transforms : public ::testing::Test {
 protected:
  std::unique_ptr<RewardTransform> make(const std::string& yaml) {
    return reward_transforms().create(ConfigNode::parse_string(yaml), context_);
  }
  Steps steps(const std::vector<std::string>& transforms, Steps values, double outcome = 0.0) {
    RewardBatch batch{.outcome_PG = at::full({1, 1}, outcome, at::kDouble),
                      .steps_PGS = {{std::move(values)}}};
    for (const auto& yaml : transforms) make(yaml)->apply(batch);
    return batch.steps_PGS[0][0];
  }
  Steps outcomes(const std::string& yaml, const Steps& values, int64_t groups = 1) {
    RewardBatch batch{.outcome_PG = at::tensor(values, at::kDouble).reshape({groups, -1})};
    make(yaml)->apply(batch);
    const auto flat = batch.outcome_PG.contiguous();
    return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
  }
  static void expect_near(const Steps& got, const Steps& wanted) {
    ASSERT_EQ(got.size(), wanted.size());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 1e-6) << i;
  }
  std::unique_ptr<Communicator> comm_ = Communicator::create({}, at::kCPU, "single");
  NullMetrics metrics_;
  RunContext context_{.comm = *comm_, .metrics = metrics_};
};

const Steps kScores = {.9, .95, .4, .92, .99};

TEST_F(Transforms, ClipAndDeltaHaveTheWorkedValues) {
  const std::string clip = "{type: step_clip, eta: 0.9}", delta = "{type: step_delta}";
  expect_near(steps({clip}, kScores), {0, 0, -.5, 0, 0});
  expect_near(steps({delta}, kScores), {-.05, .55, -.52, .92, 0});
  expect_near(steps({clip, delta}, kScores), {0, .5, -.5, 0, 0});
}

TEST_F(Transforms, RepeatedStepsEarnNothingUnderDeltaAndClip) {
  Steps attack = {.9};
  attack.insert(attack.end(), 20, .95);
  attack.push_back(.99);
  const auto sum = [&](const std::vector<std::string>& transforms) {
    double total = 0;
    for (const double step : steps(transforms, attack)) total += step;
    return total;
  };
  EXPECT_NEAR(sum({}), 20.89, 1e-9);
  EXPECT_NEAR(sum({"{type: step_delta}"}), 0.9, 1e-9);
  EXPECT_NEAR(sum({"{type: step_clip, eta: 0.9}"}), 0.0, 1e-9);
}

TEST_F(Transforms, RenormHasTheWorkedTable) {
  const double table[][3] = {{1, 1, 1},  {1, 0, 0},   {0, 1, 0},
                             {0, 0, -1}, {.5, 1, .5}, {.5, 0, -.5}};
  for (const auto& [process, outcome, expected] : table) {
    expect_near(steps({"{type: renorm}"}, {process, .3}, outcome), {expected, outcome});
    expect_near(steps({"{type: renorm, centred_outcome: true}"}, {process, .3}, outcome),
                {expected, outcome - .5});
  }
}

TEST_F(Transforms, LogSigmoidHasTheWorkedValuesAndSumsToAnAnd) {
  const std::string yaml = "{type: log_sigmoid, reference: value}";
  const auto u = outcomes(yaml, {-2, 0, 2, 4, 6});
  expect_near({u[0], u[1], u[2], u[3]}, {-2.126928, -0.693147, -0.126928, -0.018150});
  EXPECT_NEAR(u[2] + u[2], -0.253856, 1e-6);
  EXPECT_NEAR(u[4] + u[0], -2.129404, 1e-6);
  expect_near(outcomes("{type: log_sigmoid}", {7, 9, 11}),
              outcomes("{type: log_sigmoid}", {-2, 0, 2}));
  EXPECT_TRUE(std::isfinite(outcomes(yaml, {-1e300})[0]));
}

TEST_F(Transforms, NormalizeOverGroupBatchAndRun) {
  expect_near(outcomes("{type: normalize, epsilon: 0}", {1, 3, 10, 10}, 2),
              {-std::sqrt(.5), std::sqrt(.5), 0, 0});
  expect_near(outcomes("{type: normalize, over: batch, scale: false}", {1, 3, 10, 10}, 2),
              {-5, -3, 4, 4});
  Steps batch(256, 1.0);
  batch[255] = 0.0;
  // Population deviation in the paper: -15.968719; ddof 1 here.
  EXPECT_NEAR(outcomes("{type: normalize, over: batch, epsilon: 0}", batch)[255], -15.9375, 1e-6);
  const auto kept =
      outcomes("{type: normalize, over: batch, epsilon: 0, max_abs: 3, beyond: zero}", batch);
  EXPECT_EQ(kept[255], 0.0);
  EXPECT_NEAR(kept[0], .0625, 1e-6);

  const auto running = make("{type: normalize, over: running, scale: false}");
  StateDict state;
  for (const double value : {1.0, 5.0}) {
    RewardBatch one{.outcome_PG = at::full({1, 2}, value, at::kDouble)};
    running->apply(one);
  }
  running->save(state);
  EXPECT_NEAR(state.numbers.at("mean"), 3.0, 1e-12);
  EXPECT_NEAR(state.numbers.at("std"), std::sqrt(16.0 / 3.0), 1e-12);
}

TEST_F(Transforms, MissingRewardsStayMissing) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const std::string type : {"normalize", "log_sigmoid", "clip", "scale"}) {
    const auto got = outcomes("{type: " + type + "}", {1, nan, 2});
    EXPECT_TRUE(std::isnan(got[1])) << type;
    EXPECT_TRUE(std::isfinite(got[0])) << type;
  }
}

TEST_F(Transforms, ShapesThatDoNotFitAreRefused) {
  const auto problem = [](const std::string& yaml) {
    return check_shapes(ConfigNode::parse_string(yaml, "r.yaml"));
  };
  EXPECT_EQ(problem("{type: math_answer, transforms: [{type: clip}]}"), "");
  EXPECT_NE(problem("{type: math_answer, transforms: [{type: clip}, {type: renorm}]}")
                .find("renorm takes step rewards, but math_answer gives only outcome rewards"),
            std::string::npos);
}

TEST_F(Transforms, ShapesAreFollowedThroughTheTransforms) {
  const auto node = [](const std::string& yaml) {
    return ConfigNode::parse_string(yaml, "r.yaml");
  };
  EXPECT_NE(
      check_shapes(node("{type: chain_steps, transforms: [{type: sum_steps}, {type: step_delta}]}"))
          .find("step_delta takes step rewards, but chain_steps and the transforms before leave "
                "only outcome rewards"),
      std::string::npos);
  const auto left = shapes_of(node("{type: chain_steps, transforms: [{type: step_clip}]}"));
  EXPECT_EQ(left.left, "outcome step");
  EXPECT_EQ(left.shaper, "step_clip");
  const auto summed =
      shapes_of(node("{type: chain_steps, transforms: [{type: step_clip}, {type: sum_steps}]}"));
  EXPECT_EQ(summed.left, "outcome");
  EXPECT_EQ(summed.shaper, "");
  EXPECT_EQ(shapes_of(node("{type: math_answer}")).left, "outcome");
}

TEST_F(Transforms, StepsThatBecomeTheOutcomeAreGone) {
  RewardBatch batch{.outcome_PG = at::ones({1, 2}, at::kDouble), .steps_PGS = {{{.5, .25}, {}}}};
  make("{type: renorm}")->apply(batch);
  EXPECT_TRUE(batch.steps_hold_outcome);
  make("{type: sum_steps}")->apply(batch);
  EXPECT_FALSE(batch.steps_hold_outcome);
  EXPECT_TRUE(batch.steps_PGS.empty());
  EXPECT_NEAR(batch.outcome_PG[0][0].item<double>(), .5 + 1 - 1 + 1, 1e-12);
  EXPECT_EQ(batch.outcome_PG[0][1].item<double>(), 1.0);
}

TEST_F(Transforms, RenormWithoutItsMinusOneIsTheNaiveSum) {
  expect_near(steps({"{type: renorm, centre: false}"}, {.5, 1, .3}, 1.0), {1.5, 2, 1});
}

TEST_F(Transforms, LogSigmoidTakesTheRowsOwnReference) {
  const auto transform = make("{type: log_sigmoid, reference: column, column: median}");
  Example first, second;
  first.extra["median"] = "2";
  second.extra["median"] = "-1.5";
  RewardBatch batch{.outcome_PG = at::tensor({4.0, 2.0, -1.5, -3.5}, at::kDouble).view({2, 2}),
                    .examples_P = {&first, &second}};
  transform->apply(batch);
  const auto flat = batch.outcome_PG.contiguous();
  expect_near({flat.data_ptr<double>(), flat.data_ptr<double>() + 4},
              {-0.126928, -0.693147, -0.693147, -2.126928});
  second.extra["median"] = "high";
  EXPECT_THROW(transform->apply(batch), DataError);
}

TEST_F(Transforms, QuantizeGivesMarks) {
  expect_near(outcomes("{type: quantize}", {-1, 0, .1, .2, .55, .99, 1, 7}),
              {.2, .2, .2, .4, .6, 1, 1, 1});
  EXPECT_TRUE(std::isnan(outcomes("{type: quantize}", {std::nan(""), 1})[0]));
}

}  // namespace
}  // namespace meed
