#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "libpolicy/core/error.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/data/dataset.h"
#include "libpolicy/distributed/communicator.h"
#include "libreward/data/gridworld.h"
#include "libreward/data/length_constraint.h"
#include "libreward/data/vector_example.h"

namespace meed {
namespace {

const std::vector<std::string> kGenerators = {"three_tastes",         "cyclic_preferences",
                                              "noisy_preferences",    "strength_preferences",
                                              "product_preferences",  "attribute_ratings",
                                              "spurious_preferences", "length_biased_preferences",
                                              "opinion_summaries",    "gridworld_demonstrations",
                                              "aspect_preferences"};

std::unique_ptr<Dataset> make(const std::string& yaml) {
  static const auto comm = Communicator::create({}, at::kCPU, "single");
  static NullMetrics metrics;
  static RunContext context{.comm = *comm, .metrics = metrics};
  return datasets().create(ConfigNode::parse_string(yaml), context);
}

std::string problem(const std::string& yaml) {
  try {
    make(yaml);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

double number(const Example& row, const std::string& column) {
  return std::stod(row.extra.at(column));
}

/// Share of rows whose chosen gold is at least the rejected one's.
double gold_agreement(const Dataset& data) {
  double right = 0.0;
  for (int64_t i = 0; i < data.size(); ++i) {
    const auto row = data.get(i);
    right += number(row, "chosen_gold") >= number(row, "rejected_gold");
  }
  return right / static_cast<double>(data.size());
}

TEST(AspectPreferences, AreAboutTheAspectThatThePromptAsksFor) {
  const auto data = make("{type: aspect_preferences, num_rows: 400, missing_share: 0.25}");
  EXPECT_EQ(gold_agreement(*data), 1.0);
  double labelled = 0.0, favoured = 0.0;
  std::map<std::string, int> asked;
  for (int64_t i = 0; i < data->size(); ++i) {
    const auto row = data->get(i);
    const auto& aspect = row.extra.at("aspect");
    ++asked[aspect];
    EXPECT_EQ(row.extra.at(aspect), "1");
    favoured += row.extra.at("aspect_a") == "1";
    labelled += !row.extra.at("chosen_aspect_b/criterion_5").empty();
  }
  EXPECT_EQ(asked.size(), 5u);
  EXPECT_NEAR(labelled / 400, 0.75, 0.08);
  EXPECT_NEAR(favoured / 400, 0.6, 0.1);  // a fifth asked for, and half of the others
  EXPECT_NE(problem("{type: aspect_preferences, criteria: [2, 0]}").find("criteria"),
            std::string::npos);
}

TEST(ChainSolutions, HaveTheErrorsThatTheyWerePlanted) {
  const auto data = make("{type: chain_solutions, num_rows: 600}");
  double wrong = 0.0, blind = 0.0;
  for (int64_t i = 0; i < data->size(); ++i) {
    const auto row = data->get(i);
    ASSERT_EQ(row.completions.size(), row.labels.size());
    bool after = false;
    for (size_t step = 0; step < row.labels.size(); ++step) {
      const auto& text = row.completions[step];
      const auto plus = text.find('+'), equals = text.find('=');
      const bool right =
          std::stoi(text.substr(0, plus)) + std::stoi(text.substr(plus + 1, equals - plus - 1)) ==
          std::stoi(text.substr(equals + 1));
      EXPECT_EQ(row.labels[step], after ? -100.0 : right ? 1.0 : 0.0);
      after = after || !right;
    }
    EXPECT_EQ(row.extra.at("right"), after ? "false" : "true");
    wrong += after;
    blind += after && row.extra.at("monte_carlo").find("0.000000") == std::string::npos;
  }
  EXPECT_NEAR(blind / wrong, 0.3, 0.07);
  const auto careful = make("{type: chain_solutions, num_rows: 100, judge_noise: 0}");
  for (int64_t i = 0; i < careful->size(); ++i) {
    const auto row = careful->get(i);
    const auto error = std::find(row.labels.begin(), row.labels.end(), 0.0);
    const auto place = error == row.labels.end() ? 0 : error - row.labels.begin() + 1;
    EXPECT_EQ(row.extra.at("judge"), std::to_string(place));
  }
}

TEST(Generators, RowsDependOnSeedSplitAndPlaceAlone) {
  for (const auto& name : kGenerators) {
    const auto few = make("{type: " + name + ", num_rows: 12, seed: 3}");
    const auto more = make("{type: " + name + ", num_rows: 30, seed: 3}");
    const auto eval = make("{type: " + name + ", num_rows: 12, seed: 3, split: eval}");
    const auto other = make("{type: " + name + ", num_rows: 12, seed: 4}");
    ASSERT_EQ(few->size(), 12) << name;
    int64_t as_eval = 0, as_other = 0;
    for (int64_t i = 0; i < few->size(); ++i) {
      const auto row = few->get(i);
      EXPECT_EQ(row.row, i);
      EXPECT_EQ(row.extra, more->get(i).extra) << name;
      as_eval += row.extra == eval->get(i).extra;
      as_other += row.extra == other->get(i).extra;
    }
    EXPECT_LT(as_eval, 3) << name;
    EXPECT_LT(as_other, 3) << name;
  }
}

TEST(Generators, VectorsHaveOneSizeAndGoldRewardsStandBeside) {
  for (const auto& name : kGenerators) {
    const auto data = make("{type: " + name + ", num_rows: 20}");
    std::set<size_t> sizes;
    for (int64_t i = 0; i < data->size(); ++i) {
      const auto row = read_vectors(data->get(i));
      ASSERT_FALSE(row->vectors.empty()) << name;
      for (const auto& [column, values] : row->vectors) {
        if (column != "context_features") sizes.insert(values.size());
        for (const float value : values) EXPECT_TRUE(std::isfinite(value)) << name;
      }
      EXPECT_TRUE(row->extra.contains("chosen_gold") || row->extra.contains("gold")) << name;
    }
    EXPECT_EQ(sizes.size(), 1u) << name;
  }
}

TEST(Generators, LabelsAgreeWithGoldAsFarAsTheyShould) {
  EXPECT_EQ(gold_agreement(*make("{type: noisy_preferences, num_rows: 2000, flip_share: 0}")), 1.0);
  EXPECT_NEAR(gold_agreement(*make("{type: noisy_preferences, num_rows: 2000}")), 0.8, 0.03);
  // Bradley and Terry's labels under the person's taste: the simulation's oracle reaches 84 %.
  EXPECT_NEAR(gold_agreement(*make("{type: three_tastes, num_rows: 3000}")), 0.84, 0.03);
}

TEST(Generators, FlipsOfStrengthsAreConcentratedOnTheWeak) {
  const auto data =
      make("{type: strength_preferences, num_rows: 3000, flip_shares: [0.3, 0.1, 0]}");
  double count[4] = {}, flipped[4] = {};
  for (int64_t i = 0; i < data->size(); ++i) {
    const auto row = data->get(i);
    const auto strength = static_cast<size_t>(*row.margin);
    ++count[strength];
    flipped[strength] += row.extra.at("flipped") == "true";
  }
  for (const size_t strength : {1, 2, 3}) EXPECT_GT(count[strength], 800) << strength;
  EXPECT_NEAR(flipped[1] / count[1], 0.3, 0.05);
  EXPECT_NEAR(flipped[2] / count[2], 0.1, 0.04);
  EXPECT_EQ(flipped[3], 0.0);
}

TEST(Generators, ACycleBeatsItselfInTurn) {
  const auto data = make("{type: cyclic_preferences, num_rows: 3}");
  // Three pairs of one prompt: each response wins once and loses once.
  std::map<std::string, int> wins, losses;
  for (int64_t i = 0; i < 3; ++i) {
    ++wins[data->get(i).extra.at("chosen_features")];
    ++losses[data->get(i).extra.at("rejected_features")];
  }
  EXPECT_EQ(wins.size(), 3u);
  EXPECT_EQ(wins, losses);
}

TEST(Generators, ChosenIsLongerInSeventyPercent) {
  const auto data = make("{type: length_biased_preferences, num_rows: 3000}");
  double longer = 0.0;
  for (int64_t i = 0; i < data->size(); ++i)
    longer += number(data->get(i), "chosen_length") > number(data->get(i), "rejected_length");
  EXPECT_NEAR(longer / 3000.0, 0.7, 0.03);
}

TEST(Generators, SayWhatIsWrongWithTheirKeys) {
  EXPECT_NE(
      problem("{type: noisy_preferences, flip_share: 1}").find("flip_share: must be in [0, 1)"),
      std::string::npos);
  EXPECT_NE(problem("{type: cyclic_preferences, cycle_length: 2}")
                .find("cycle_length: must be 0, or at least 3"),
            std::string::npos);
  EXPECT_NE(problem("{type: three_tastes, num_rows: 0}").find("num_rows: must be positive"),
            std::string::npos);
}

TEST(LengthConstraint, DropsPairsWhoseChosenIsMuchLonger) {
  EXPECT_FALSE(keeps_length(15, 9));
  EXPECT_TRUE(keeps_length(12, 9));
  const auto data =
      make("{type: length_constraint, data: {type: length_biased_preferences, num_rows: 2000}}");
  double longer = 0.0;
  for (int64_t i = 0; i < data->size(); ++i) {
    const auto row = data->get(i);
    EXPECT_EQ(row.row, i);
    EXPECT_LE(number(row, "chosen_length"), 1.5 * number(row, "rejected_length"));
    longer += number(row, "chosen_length") > number(row, "rejected_length");
  }
  EXPECT_NEAR(longer / static_cast<double>(data->size()), 0.5, 0.05);
  EXPECT_NE(problem("{type: length_constraint, data: {type: three_tastes, num_rows: 5}}")
                .find("row 1: neither a text nor \""),
            std::string::npos);
}

TEST(VectorExample, ComesBackBitForBit) {
  const std::vector<float> values = {0.1f, -3.4e-38f, 1e30f, 0.0f};
  Example example;
  example.extra["features"] = vector_column(values);
  example.extra["candidate_features"] = "[[1, 2], [3.5, -4e1]]";
  example.extra["other"] = "kept";
  const auto row = read_vectors(example);
  EXPECT_EQ(row->vectors.at("features"), values);
  EXPECT_EQ(row->vectors.at("candidate_features"), (std::vector<float>{1, 2, 3.5, -40}));
  EXPECT_EQ(row->extra.size(), 1u);
}

TEST(VectorExample, NamesRowAndColumnOfWhatIsNoVector) {
  for (const std::string bad : {"1, 2", "[1, x]", "[1, 2", "[]", "[[[1]]]", ""}) {
    Example example;
    example.row = 6;
    example.extra["chosen_features"] = bad;
    try {
      read_vectors(example);
      ADD_FAILURE() << bad;
    } catch (const DataError& e) {
      EXPECT_STREQ(e.what(), "row 7: \"chosen_features\": expected a list of numbers");
    }
  }
}

TEST(Gridworld, MovesWithinTheWorldAndCountsItsTiles) {
  const Gridworld world({.size = 4, .horizon = 10, .world_seed = 5, .slip = 0.2});
  const auto& problem = world.problem();
  EXPECT_LT((problem.transitions_SAS.sum(2) - 1.0).abs().max().item<double>(), 1e-12);
  const auto chance = soft_optimal_policy(problem, at::zeros_like(world.rewards_S()));
  EXPECT_NEAR(chance.visits_S.sum().item<double>(), 10.0, 1e-9);
  const auto states = world.sample(chance.policy_TSA, 1);
  ASSERT_EQ(states.size(), 10u);
  EXPECT_EQ(states[0], 0);
  double features = 0.0;
  for (const double count : world.features(states)) features += count;
  EXPECT_EQ(features, 10.0);
}

}  // namespace
}  // namespace meed
