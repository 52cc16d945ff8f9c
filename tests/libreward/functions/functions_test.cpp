#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "libpolicy/core/error.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/distributed/communicator.h"
#include "libreward/functions/ensemble.h"
#include "libreward/reward_pipeline.h"

namespace meed {
namespace {

class Rewards : public ::testing::Test {
 protected:
  PipelineScores score(const std::string& yaml, const std::vector<std::string>& texts,
                       const std::string& answer = "12",
                       const std::map<std::string, std::string>& columns = {}) {
    RolloutGroup group;
    group.example.extra = columns;
    group.example.extra.emplace("answer", answer);
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

TEST_F(Rewards, AGateShutsARewardWhereAnotherIsNotMet) {
  const auto scores = score(
      "[{type: math_answer, weight: 2, gate: {rewards: format, otherwise: -1}}, "
      "{type: format, pattern: '#### .*', weight: 0.5}]",
      {"#### 12", "12", "#### 13"});
  EXPECT_EQ(values(scores.rewards_PG), (std::vector<double>{2.5, -2, 0.5}));
  EXPECT_EQ(values(scores.components.at("math_answer")), (std::vector<double>{1, 1, 0}));
}

TEST_F(Rewards, WeightsFollowTheirSchedule) {
  const auto at_step = [&](int64_t step, const std::string& interpolation) {
    RewardPipeline pipeline(
        ConfigNode::parse_string("[{type: math_answer, weight: 3, weight_schedule: {steps: [10, "
                                 "20], factors: [2, 1], interpolation: " +
                                 interpolation + "}}]")
            .items(),
        context_);
    RolloutGroup group;
    group.example.extra.emplace("answer", "12");
    group.completions.emplace_back().text = "12";
    return pipeline.score(std::vector<RolloutGroup>{group}, {.step = step})
        .rewards_PG.item<double>();
  };
  EXPECT_EQ(at_step(0, "linear"), 6.0);
  EXPECT_EQ(at_step(15, "linear"), 4.5);
  EXPECT_EQ(at_step(25, "linear"), 3.0);
  EXPECT_EQ(at_step(15, "hold"), 6.0);
}

TEST_F(Rewards, RewardsThatDoNotFitTogetherAreAllNamed) {
  const auto problems =
      pipeline_problems(ConfigNode::parse_string("[{type: math_answer, gate: {rewards: [fromat, "
                                                 "math_answer]}}, {type: format, pattern: a}, "
                                                 "{type: format, pattern: b}]",
                                                 "r.yaml")
                            .items());
  ASSERT_EQ(problems.size(), 3u);
  EXPECT_NE(problems[0].find("two rewards are named \"format\""), std::string::npos);
  EXPECT_NE(problems[1].find("did you mean \"format\"?"), std::string::npos) << problems[1];
  EXPECT_NE(problems[2].find("cannot be its own gate"), std::string::npos);
}

TEST_F(Rewards, RunningStatisticsAreSavedAndAnEvaluationLeavesThemAlone) {
  const auto recipe = ConfigNode::parse_string(
      "[{type: length_penalty, free_tokens: 0, scale_tokens: 1, transforms: [{type: clip}, {type: "
      "normalize, over: running}]}]");
  RolloutGroup group;
  for (const size_t length : {2u, 4u}) group.completions.emplace_back().token_ids.resize(length);
  const std::vector<RolloutGroup> groups{group};
  RewardPipeline first(recipe.items(), context_), second(recipe.items(), context_);
  first.score(groups);
  const auto saved = first.state_dict();
  second.load_state_dict(saved);
  const auto evaluated = values(first.score(groups, {.training = false}).rewards_PG);
  EXPECT_EQ(values(second.score(groups, {.training = false}).rewards_PG), evaluated);
  EXPECT_EQ(first.state_dict().numbers, saved.numbers);
  EXPECT_EQ(saved.numbers.at("length_penalty.transforms.1.count"), 2.0);
}

TEST_F(Rewards, ToolCallsAddFormatAndCorrectnessAndNameWhatIsUnreadable) {
  const std::string call = R"({"name": "f", "parameters": {"a": 1, "b": 2}})";
  const auto block = [](const std::string& inside) {
    return "<think>t</think>\n<tool_call>\n" + inside + "\n</tool_call>";
  };
  const auto scores = score("[{type: tool_call}]",
                            {block(call), block(R"({"name": "f", "parameters": {"a": 9}})"),
                             block("{\"name\""), "<tool_call>" + call, "hello", ""},
                            "", {{"tool_calls", "[" + call + "]"}});
  EXPECT_EQ(values(scores.rewards_PG), (std::vector<double>{4, 0.25, -2, -3, -3, -3}));
  EXPECT_EQ(scores.unreadable.at("tool_call/malformed_tool_call").size(), 1u);
  EXPECT_EQ(scores.unreadable.at("tool_call/unbalanced_tags").size(), 1u);
  EXPECT_EQ(scores.unreadable.at("tool_call/no_tool_call").size(), 2u);
  EXPECT_EQ(values(scores.parts.at("tool_call/format")), (std::vector<double>{1, 1, 1, 0, 0, 0}));
}

TEST_F(Rewards, GroupLengthPenaltyComparesWithRightAnswers) {
  const std::string right = "12" + std::string(98, ' ');
  const auto scores =
      score("[{type: group_length_penalty}]", {right, right, "13" + std::string(18, ' ')});
  const auto got = values(scores.rewards_PG);
  EXPECT_EQ(got[0], 0.0);
  EXPECT_NEAR(got[2], -0.375, 1e-12);
  EXPECT_EQ(values(score("[{type: group_length_penalty}]", {"1", "2 3 4 5"}).rewards_PG),
            (std::vector<double>{0, 0}));
}

TEST_F(Rewards, JobApplicationsEarnTheWorkedValues) {
  const std::map<std::string, std::string> columns = {
      {"decision", "REJECTED"}, {"score", "3"}, {"skills", "[\"C++\", \"SQL\"]"}};
  const auto answer = [](const std::string& decision, const std::string& score) {
    return "<decision>" + decision + "</decision><score>" + score +
           "</score><reasons>sql, C++</reasons>";
  };
  const auto scores =
      score("[{type: job_application}]",
            {answer("REJECTED", "3"), answer("REJECTED", "9"), answer("selected", "1e400"), ""}, "",
            columns);
  const auto got = values(scores.rewards_PG);
  EXPECT_NEAR(got[0], 2.25, 1e-12);
  EXPECT_NEAR(got[1], 2.25 - 0.3 - 0.25, 1e-12);
  EXPECT_NEAR(got[2], 0.5, 1e-12);
  EXPECT_EQ(got[3], 0.0);
  EXPECT_EQ(scores.unreadable.at("job_application/no_score").size(), 1u);
  EXPECT_EQ(scores.unreadable.at("job_application/no_decision").size(), 1u);
  EXPECT_EQ(values(score("[{type: job_application, penalize: false_accept, penalty: 2}]",
                         {answer("SELECTED", "9")}, "", columns)
                       .rewards_PG),
            (std::vector<double>{-2}));
}

TEST_F(Rewards, TextOverlapReadsTheAnswerBlockAndListsOfReferences) {
  const auto scores = score("[{type: text_overlap}, {type: ngram_repetition, ngram_size: 1}]",
                            {"<think>x</think><answer>the cat</answer>", ""}, "",
                            {{"reference", "[\"the cat is on the mat\"]"}});
  EXPECT_NEAR(values(scores.components.at("text_overlap"))[0], 0.135335, 1e-6);
  EXPECT_EQ(scores.unreadable.at("text_overlap/empty").size(), 1u);
}

TEST_F(Rewards, WinRatesCountVictoriesAndTies) {
  const auto rate = [&](const std::vector<std::string>& texts, const std::string& more = "") {
    return values(score("[{type: win_rate" + more +
                            ", judge: {type: reward, tie_band: 0.5, reward: {type: length_penalty, "
                            "free_tokens: 0, scale_tokens: 1}}}]",
                        texts)
                      .rewards_PG);
  };
  // length_penalty reads token ids, which a judge's texts have none of: all are equal, all tie.
  EXPECT_EQ(rate({"1", "22", "333", "4444"}), (std::vector<double>{.5, .5, .5, .5}));
  const auto by_overlap = [&](const std::vector<std::string>& texts) {
    return values(score("[{type: win_rate, judge: {type: reward, hard: true, reward: {type: "
                        "text_overlap, metric: rouge_l}}}]",
                        texts, "", {{"reference", "a b c d"}})
                      .rewards_PG);
  };
  const auto order = by_overlap({"a b c d", "a b c", "a b", "a"});
  const std::vector<double> wanted = {1.0, 2.0 / 3.0, 1.0 / 3.0, 0.0};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(order[i], wanted[i], 1e-12);
  EXPECT_EQ(by_overlap({"a"}), (std::vector<double>{.5}));
}

TEST_F(Rewards, AnchorsAreComparedInBothOrders) {
  const auto preference = [&](const std::string& scale, const std::vector<std::string>& texts) {
    return values(score("[{type: anchor_preference, scale: " + scale +
                            ", judge: {type: reward, temperature: 0.5, reward: {type: "
                            "text_overlap, metric: rouge_l}}}]",
                        texts, "", {{"reference", "a b c d"}, {"anchor", "a b"}})
                      .rewards_PG);
  };
  const auto probability = preference("probability", {"a b", "a b c d", "a", ""});
  EXPECT_EQ(probability[0], 0.0);
  // rouge_l of "a b" is 2/3: sigmoid((1 - 2/3) / 0.5) - 1/2.
  EXPECT_NEAR(probability[1], 1.0 / (1.0 + std::exp(-2.0 / 3.0)) - 0.5, 1e-12);
  EXPECT_LT(probability[2], 0.0);
  EXPECT_NEAR(preference("logit", {"a b c d"})[0], 2.0 / 3.0, 1e-12);
  EXPECT_EQ(preference("level", {"a b", "a b c d", ""}), (std::vector<double>{.6, .8, .4}));
}

TEST_F(Rewards, HybridRewardsTakeTheRuleOrTheModel) {
  const auto get = [&](const std::string& keys, const std::string& text,
                       const std::map<std::string, std::string>& columns) {
    auto all = columns;
    all.emplace("reference", "so 12 it is");
    return values(score("[{type: hybrid, rule: {type: math_equivalence}, model: {type: "
                        "text_overlap, metric: rouge_l}" +
                            keys + "}]",
                        {text}, "12", all)
                      .rewards_PG)[0];
  };
  EXPECT_EQ(get("", "#### 12", {{"reward", "rule"}}), 1.0);
  EXPECT_EQ(get("", "so 12 it is", {{"reward", "model"}}), 1.0);
  EXPECT_NEAR(get("", "#### 12", {{"reward", "both"}}), (1.0 + 2.0 / 9.0) / 2, 1e-12);
  EXPECT_NEAR(get("", "so", {{"reward", "rule"}}), 0.4, 1e-12);  // the rule read nothing
  EXPECT_NEAR(get(", by: confidence", "so it is 12", {}), 0.5 + 0.5 * 0.75, 1e-12);
  EXPECT_THROW(get("", "12", {{"reward", "wrong"}}), DataError);
  try {
    score(
        "[{type: hybrid, rule: {type: math_answer, weight: 2, transforms: [{type: clip, max: 1}]}, "
        "model: {type: text_overlap}}]",
        {"12"});
    ADD_FAILURE() << "keys that an inner reward does not read were taken";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("rule: takes no `weight`"), std::string::npos)
        << error.what();
  }
}

TEST_F(Rewards, MathEquivalenceSaysHowSureItIs) {
  const auto scores =
      score("[{type: math_equivalence}]", {"\\boxed{\\frac{24}{2}}", "we get 12 then", "none", ""});
  EXPECT_EQ(values(scores.rewards_PG), (std::vector<double>{1, 1, 0, 0}));
  EXPECT_EQ(values(scores.parts.at("math_equivalence/confidence")),
            (std::vector<double>{1, 0.5, 0, 0}));
  EXPECT_EQ(scores.unreadable.at("math_equivalence/no_answer").size(), 1u);
}

TEST_F(Rewards, EnsemblesHaveTheWorkedValues) {
  const auto members = at::tensor({1.0, 2.0, 0.0, 5.0}, at::kDouble).view({4, 1});
  const auto get = [&](const char* how) { return aggregate_members(members, how).item<double>(); };
  EXPECT_EQ(get("mean"), 2.0);
  EXPECT_EQ(get("median"), 1.5);
  EXPECT_EQ(get("min"), 0.0);
  EXPECT_NEAR(get("mean_minus_std"), 1.064586, 1e-6);
  const std::vector<double> similarities = {.95, .90}, rewards = {1, 3};
  EXPECT_NEAR(fused_reward(2, similarities, rewards), 1.982456, 1e-6);
  EXPECT_EQ(fused_reward(2, std::vector<double>{.5}, std::vector<double>{9}), 2.0);
  const auto scores = score(
      "[{type: ensemble, aggregate: min, members: [{type: math_answer}, {type: format, pattern: "
      "'#### .*'}]}]",
      {"#### 12", "12", "x"});
  EXPECT_EQ(values(scores.rewards_PG), (std::vector<double>{1, 0, 0}));
  EXPECT_EQ(values(scores.parts.at("ensemble/disagreement")), (std::vector<double>{0, .5, 0}));
}

TEST_F(Rewards, JudgesThatThinkEarnTheWorkedValues) {
  const auto answer = [](const std::string& verdict, const std::string& given) {
    return "<think>Both are short.\n" + verdict + "</think>\n<answer>" + given + "</answer>";
  };
  const std::vector<std::string> texts = {answer("Response 1 is better.", "1"),
                                          answer("So response 2 is better.", "1"),
                                          answer("Response 2 is better.", "2"),
                                          answer("Hard to say.", "1"),
                                          "<answer>1</answer>",
                                          answer("Response 2 wins.\na\nb\nc", "1"),
                                          "<think>x<answer>1",
                                          ""};
  const auto scores = score("[{type: r1_reward}]", texts, "1");
  EXPECT_EQ(values(scores.rewards_PG), (std::vector<double>{2, 1, .5, 1.5, 1, 1.5, 0, 0}));
  EXPECT_EQ(values(scores.parts.at("r1_reward/consistency")),
            (std::vector<double>{1, -1, 1, 0, 0, 0, 0, 0}));
  EXPECT_EQ(scores.unreadable.at("r1_reward/no_answer").size(), 2u);
  EXPECT_EQ(scores.unreadable.at("r1_reward/no_think").size(), 1u);
  EXPECT_EQ(
      values(score("[{type: r1_reward, signed_consistency: false}]", {texts[1]}, "1").rewards_PG),
      (std::vector<double>{1.5}));
}

TEST_F(Rewards, LanguagesAreToldApartAndNewOnesLearntFromSamples) {
  const std::string german = "Das ist ein kurzer Satz, den man leicht erkennt.";
  EXPECT_EQ(values(score("[{type: language}]", {german, "This is a short sentence.", "12 + 7"}, "",
                         {{"language", "de"}})
                       .rewards_PG),
            (std::vector<double>{1, 0, 0}));
  const auto scores = score(
      "[{type: language, answer_tag: answer, languages: [en, xx], samples: {xx: \"kaba zuru "
      "kazu baru zaka\"}}]",
      {"<answer>zuba karu</answer>", "<answer>the day was long</answer>", "zuba", "", "\xff"}, "",
      {{"language", "xx"}});
  EXPECT_EQ(values(scores.rewards_PG), (std::vector<double>{1, 0, 0, 0, 0}));
  EXPECT_EQ(scores.unreadable.at("language/no_answer").size(), 3u);
  EXPECT_THROW(score("[{type: language}]", {"x"}, "", {{"language", "tlh"}}), DataError);
  EXPECT_THROW(score("[{type: language, languages: [tlh]}]", {"x"}), ConfigError);
}

TEST_F(Rewards, RowsSayWhichRewardsApply) {
  RolloutGroup full, light;
  full.example.extra = {{"direction", "main"}, {"answer", "12"}};
  light.example.extra = {{"direction", "transfer"}};
  for (auto* group : {&full, &light}) group->completions.emplace_back().text = "#### 12";
  RewardPipeline pipeline(
      ConfigNode::parse_string("[{type: math_answer, weight: 2, rows: {column: direction, values: "
                               "[main]}}, {type: format, pattern: '#### .*', weight: 0.5}]")
          .items(),
      context_);
  const auto scores = pipeline.score(std::vector<RolloutGroup>{full, light});
  EXPECT_EQ(values(scores.rewards_PG), (std::vector<double>{2.5, 0.5}));
  EXPECT_TRUE(std::isnan(values(scores.components.at("math_answer"))[1]));
  light.example.extra.clear();
  EXPECT_THROW(pipeline.score(std::vector<RolloutGroup>{light}), DataError);
}

TEST_F(Rewards, ToolRewardSchedulesFollowTheStepOfThePolicy) {
  const auto at_step = [&](int64_t step, const std::string& keys) {
    RolloutGroup group;
    group.example.extra = {{"tool_calls", R"([{"name": "f", "parameters": {}}])"}};
    auto& completion = group.completions.emplace_back();
    completion.text = "<think>a b c d</think><tool_call>{\"name\": \"f\"}</tool_call>";
    completion.policy_version = step;
    RewardPipeline pipeline(ConfigNode::parse_string("[{type: tool_call, " + keys + "}]").items(),
                            context_);
    return pipeline.score(std::vector<RolloutGroup>{group}).rewards_PG.item<double>();
  };
  EXPECT_EQ(at_step(0, "schedule: linear"), 2.0 + 2.0);
  EXPECT_EQ(at_step(75, "schedule: linear"), 1.5 + 2.5);
  EXPECT_EQ(at_step(150, "schedule: linear"), 1.0 + 3.0);
  EXPECT_EQ(at_step(29, "schedule: two_stage, schedule_steps: 30"), 1.0 + 1.0);
  EXPECT_EQ(at_step(30, "schedule: two_stage, schedule_steps: 30"), 1.0 + 3.0);
  const std::string length =
      "length_reward: true, length_words: 8, length_words_final: 16, length_steps: 10";
  EXPECT_EQ(at_step(0, length), 4.0 + 0.5);
  EXPECT_EQ(at_step(10, length), 4.0 + 0.25);
}

TEST_F(Rewards, NothingThatAPolicyWritesBreaksAReward) {
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += i % 2 ? "[" : "{\"a\":";
  const std::vector<std::string> texts = {"",
                                          " \n",
                                          "\xff\xfe\x00",
                                          deep,
                                          "<think><think></answer><answer>",
                                          "#### 1e999999",
                                          std::string(100'000, '9'),
                                          "\xe4\xb8\xad\xe6\x96\x87 \xd8\xa7",
                                          "\\boxed{\\frac{1}{0}}",
                                          "<tool_call>{\"name\": 1e400}</tool_call>",
                                          "<answer>" + deep + "</answer>",
                                          "<tool_call>" + deep + "</tool_call>",
                                          "<score>-inf</score><decision>SELECTED</decision>"};
  for (const auto& [yaml, name] : std::map<std::string, std::string>{
           {"{type: math_answer}", ""},
           {"{type: math_equivalence}", "math_equivalence"},
           {"{type: text_overlap, metric: bleu_rouge}", "text_overlap"},
           {"{type: tool_call}", "tool_call"},
           {"{type: job_application}", "job_application"},
           {"{type: r1_reward}", "r1_reward"},
           {"{type: language, answer_tag: answer}", "language"},
           {"{type: group_length_penalty}", ""},
           {"{type: ngram_repetition}", ""}}) {
    const auto scores = score("[" + yaml + "]", texts, "12",
                              {{"tool_calls", R"([{"name": "f", "parameters": {"a": 1}}])"},
                               {"decision", "REJECTED"},
                               {"score", "3"},
                               {"skills", "[\"C++\"]"},
                               {"language", "en"},
                               {"reference", "a text"}});
    for (const double value : values(scores.rewards_PG)) EXPECT_TRUE(std::isfinite(value)) << yaml;
    if (name.empty()) continue;
    size_t named = 0;
    for (const auto& [reason, places] : scores.unreadable) named += places.size();
    EXPECT_GE(named, 2u) << yaml;
  }
}

TEST_F(Rewards, BadConfigurationSaysWhere) {
  EXPECT_THROW(score("[{type: math_answer}, {type: math_answer}]", {"1"}), ConfigError);
  EXPECT_THROW(score("[{type: format, pattern: \"(\"}]", {"1"}), ConfigError);
  EXPECT_THROW(score("[{type: math_answer, answer_column: gold}]", {"1"}), DataError);
}

}  // namespace
}  // namespace meed
