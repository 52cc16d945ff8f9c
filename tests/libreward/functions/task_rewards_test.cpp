#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "libpolicy/core/error.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/data/dataset.h"
#include "libpolicy/distributed/communicator.h"
#include "libpolicy/generation/environment.h"
#include "libpolicy/losses/advantages.h"
#include "libpolicy/text/text_metrics.h"
#include "libreward/data/opinion_features.h"
#include "libreward/functions/columns.h"
#include "libreward/models/feature_heads.h"
#include "libreward/reward_pipeline.h"

// The generated tasks with the rewards that are made for them.

namespace meed {
namespace {

class Tasks : public ::testing::Test {
 protected:
  std::unique_ptr<Dataset> task(const std::string& yaml) {
    return datasets().create(ConfigNode::parse_string(yaml, "task"), context_);
  }
  /// Rewards of texts about one row.
  PipelineScores score(const std::string& rewards, const Example& example,
                       const std::vector<std::string>& texts) {
    RolloutGroup group{.example = example};
    for (const auto& text : texts) group.completions.emplace_back().text = text;
    RewardPipeline pipeline(ConfigNode::parse_string(rewards).items(), context_);
    return pipeline.score(std::vector<RolloutGroup>{group});
  }
  /// Mean reward of the dataset's own completions.
  double mean_of_own(const std::string& task_yaml, const std::string& rewards) {
    const auto data = task(task_yaml);
    RewardPipeline pipeline(ConfigNode::parse_string(rewards).items(), context_);
    std::vector<RolloutGroup> groups;
    for (int64_t i = 0; i < data->size(); ++i) {
      groups.push_back({.example = data->get(i)});
      groups.back().completions.emplace_back().text = groups.back().example.completion.text;
    }
    return pipeline.score(groups).rewards_PG.mean().item<double>();
  }
  std::unique_ptr<Communicator> comm_ = Communicator::create({}, at::kCPU, "single");
  NullMetrics metrics_;
  RunContext context_{.comm = *comm_, .metrics = metrics_};
};

TEST_F(Tasks, RowsComeFromTheSeedAndSplitsShareNoPrompt) {
  for (const std::string name : {"chain_sums", "knowledge_graph", "tool_requests", "verdicts",
                                 "ciphers", "scenes", "job_applications", "writing_requests"}) {
    std::set<std::string> train;
    const auto first = task("{type: " + name + ", num_rows: 60, seed: 4}"),
               again = task("{type: " + name + ", num_rows: 60, seed: 4}"),
               other = task("{type: " + name + ", num_rows: 60, seed: 5}"),
               eval = task("{type: " + name + ", num_rows: 60, split: eval}");
    int64_t different = 0;
    for (int64_t i = 0; i < 60; ++i) {
      EXPECT_EQ(first->get(i).prompt.text, again->get(i).prompt.text);
      EXPECT_EQ(first->get(i).completion.text, again->get(i).completion.text);
      EXPECT_EQ(first->get(i).row, i);
      different += first->get(i).prompt.text != other->get(i).prompt.text;
      train.insert(first->get(i).prompt.text);
    }
    EXPECT_GT(different, 30) << name;
    for (int64_t i = 0; i < 60; ++i) EXPECT_EQ(train.count(eval->get(i).prompt.text), 0u) << name;
  }
  EXPECT_THROW(task("{type: verdicts, length: 0}"), ConfigError);
}

TEST_F(Tasks, TheirOwnCompletionsEarnTheWholeReward) {
  EXPECT_EQ(mean_of_own("{type: chain_sums, num_rows: 40}", "[{type: chain_steps}]"), 1.0);
  EXPECT_EQ(mean_of_own("{type: knowledge_graph, num_rows: 40}", "[{type: search_principles}]"),
            1.0);
  EXPECT_LT(mean_of_own("{type: knowledge_graph, num_rows: 40, error_rate: 0.9}",
                        "[{type: search_principles}]"),
            0.3);
  EXPECT_EQ(mean_of_own("{type: tool_requests, num_rows: 40}", "[{type: tool_call}]"), 4.0);
  EXPECT_EQ(mean_of_own("{type: tool_requests, num_rows: 40, num_calls: 3}", "[{type: tool_call}]"),
            4.0);
  EXPECT_EQ(mean_of_own("{type: verdicts, num_rows: 40}", "[{type: r1_reward}]"), 2.0);
  EXPECT_EQ(
      mean_of_own("{type: ciphers, num_rows: 40}",
                  "[{type: text_overlap, metric: chrf}, {type: language, answer_tag: answer, "
                  "languages: [c1, c2, c3], samples: {c1: lamu meri noro wulo rime, c2: sazi tuvo "
                  "fesa zuti veso, c3: caji huqe xojo cuxa heqi}}]"),
      2.0);
  EXPECT_EQ(
      mean_of_own("{type: scenes, num_rows: 40}",
                  "[{type: hybrid, rule: {type: math_equivalence}, model: {type: text_overlap, "
                  "metric: token_f1}}]"),
      1.0);
  // The score is rounded to a whole number.
  EXPECT_NEAR(mean_of_own("{type: job_applications, num_rows: 40}",
                          "[{type: job_application, accept_score: 6}]"),
              2.25, 1e-12);
  EXPECT_LT(mean_of_own("{type: verdicts, num_rows: 40, error_rate: 1}", "[{type: r1_reward}]"),
            0.6);
}

TEST_F(Tasks, UselessStepsPleaseTheProcessReward) {
  auto row = task("{type: chain_sums, num_rows: 1}")->get(0);
  row.extra["terms"] = "3 5 2";
  row.extra["answer"] = "10";
  const auto scores = score("[{type: chain_steps}]", row,
                            {"3+5=8;8+2=10;#10", "3+5=8;1+1=2;8+2=11;3+5=8;#11", "3+5=8", "",
                             "#10;#10", "99999999999999999999+1=2;#10"});
  const auto& steps = scores.steps_PGS[0];
  EXPECT_EQ(steps[0], (std::vector<double>{.92, .92, .99}));
  EXPECT_EQ(steps[1], (std::vector<double>{.92, .95, .1, .95, .1}));
  EXPECT_EQ(steps[2], (std::vector<double>{.92}));
  EXPECT_TRUE(steps[3].empty());
  EXPECT_EQ(steps[4], (std::vector<double>{.1}));  // words behind the answer spoil it
  EXPECT_EQ(steps[5], (std::vector<double>{.1, .99}));
  EXPECT_EQ(scores.unreadable.at("chain_steps/no_answer").size(), 2u);
  // The attack of the specification's unit value, end to end: 20 useless steps.
  std::string attack;
  for (int i = 0; i < 20; ++i) attack += "1+1=2;";
  const auto total = [&](const std::string& transforms) {
    return score("[{type: chain_steps, transforms: [" + transforms + "{type: sum_steps}]}]", row,
                 {attack + "#10"})
        .rewards_PG.item<double>();
  };
  EXPECT_NEAR(total(""), 20 * .95 + .99, 1e-9);
  EXPECT_NEAR(total("{type: step_delta}, "), .95, 1e-9);
  EXPECT_NEAR(total("{type: step_clip, eta: 0.9}, "), 0.0, 1e-9);
}

TEST_F(Tasks, OpinionSummariesAreRewardedByTheirFeatures) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("meed-opinions-" + std::to_string(::getpid()));
  const auto heads = FeatureHeads::create(
      {.head = ConfigNode::parse_string("{type: linear}"), .features = 7, .seed = 1});
  for (const auto& [name, tensor] : heads->parameters().items()) {
    at::NoGradGuard no_grad;
    tensor.zero_();
    if (tensor.numel() == 7)
      tensor.copy_(at::tensor({2.f, 3.f, 3.f, 1.f, 1.f, -4.f, 2.f}).view_as(tensor));
  }
  heads->save(folder);
  const std::string reward = "[{type: opinion_features, path: " + folder.string() + "}]";
  const auto data = task("{type: opinion_summaries, num_rows: 40, label_noise: 0}");
  for (int64_t i = 0; i < 40; ++i) {
    const auto row = data->get(i);
    const auto scores = score(reward, row, {row.chosen.text, row.rejected.text, " \n"});
    const auto reviews = texts_of(row.extra.at("reviews"));
    for (int64_t g = 0; g < 2; ++g) {
      const auto values =
          opinion_features(reviews, g == 0 ? row.chosen.text : row.rejected.text).values();
      const double weights[] = {2, 3, 3, 1, 1, -4, 2};
      double wanted = 0.0;
      for (size_t k = 0; k < 7; ++k) wanted += weights[k] * values[k];
      EXPECT_NEAR(scores.rewards_PG[0][g].item<double>(), wanted, 1e-5);
      EXPECT_NEAR(scores.parts.at("opinion_features/hallucination")[0][g].item<double>(), values[5],
                  1e-12);
    }
    EXPECT_NEAR(scores.rewards_PG[0][2].item<double>(), -4.0, 1e-5);
    EXPECT_EQ(scores.unreadable.at("opinion_features/empty").size(), 1u);
  }
  // Nothing but the reviews' words costs nothing; a word that is in none costs its share.
  const auto row = data->get(0);
  const auto said = texts_of(row.extra.at("reviews"))[0];
  EXPECT_EQ(score(reward, row, {said}).parts.at("opinion_features/hallucination").item<double>(),
            0.0);
  const auto other =
      FeatureHeads::create({.head = ConfigNode::parse_string("{type: linear}"), .features = 5});
  other->save(folder / "other");
  EXPECT_THROW(
      score("[{type: opinion_features, path: " + (folder / "other").string() + "}]", row, {""}),
      ConfigError);
  std::filesystem::remove_all(folder);
}

TEST_F(Tasks, SearchesAreJudgedByPrinciples) {
  Example row;
  row.prompt.text = "anna boss friend ?";
  row.extra = {{"answer", "carla"}, {"graph", "anna boss ben;ben friend carla;carla boss david;"}};
  const auto search = [](const std::string& query, const std::string& result) {
    return "<search> " + query + " </search><result> " + result + " </result>";
  };
  const std::string first = search("anna boss", "ben"), second = search("ben friend", "carla");
  const auto scores =
      score("[{type: search_principles}]", row,
            {first + second + "<answer> carla </answer>",
             first + first + second + "<answer> ben </answer>",
             search("carla boss", "david") + "<answer> carla </answer>",
             search("nobody boss", "nothing"), search("anna", "nothing") + "</search>", ""});
  EXPECT_EQ(scores.steps_PGS[0][0], (std::vector<double>{1, 1, 1}));
  const std::vector<double> repeated = {1, 2.0 / 3.0, 2.0 / 3.0, 0};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(scores.steps_PGS[0][1][i], repeated[i], 1e-12);
  // Asked about somebody who was not named yet; the result is not used.
  EXPECT_NEAR(scores.steps_PGS[0][2][0], 1.0 / 3.0, 1e-12);
  EXPECT_EQ(scores.steps_PGS[0][3], (std::vector<double>{0, 0}));
  EXPECT_EQ(scores.steps_PGS[0][4], (std::vector<double>{0, 0, 0}));
  EXPECT_EQ(scores.unreadable.at("search_principles/no_answer").size(), 3u);
  EXPECT_EQ(scores.parts.at("search_principles/num_searches")[0][1].item<double>(), 3.0);
}

TEST_F(Tasks, EnvironmentsAnswerWhateverTheyAreTold) {
  Example row;
  row.extra = {{"graph", "anna boss ben;"}};
  const auto reply = [&](const std::string& type, const std::string& text) {
    const auto environment =
        environments().create(ConfigNode::parse_string("{type: " + type + "}"), context_);
    const std::vector<Completion::Turn> turns = {{.text = text}};
    const auto answer = environment->reply(row, turns);
    return std::pair(answer->text, answer->failed);
  };
  using Reply = std::pair<std::string, bool>;
  EXPECT_EQ(reply("graph_search", "<search> anna boss </search>"),
            Reply("<result> ben </result>", false));
  EXPECT_EQ(reply("graph_search", "<search>anna boss friend</search>"),
            Reply("<result> nothing </result>", true));
  EXPECT_EQ(reply("graph_search", "\xff</search>"), Reply("<result> nothing </result>", true));
  const auto call = [&](const std::string& inside) {
    return reply("tools", "<think> x </think><tool_call>" + inside + "</tool_call>").first;
  };
  EXPECT_EQ(call(R"({"name":"weather","parameters":{"city":"rome","day":"friday"}})"),
            "<tool_response> done </tool_response>");
  EXPECT_EQ(call(R"({"name":"weather","parameters":{"city":"rome"}})"),
            "<tool_response> missing day </tool_response>");
  EXPECT_EQ(call(R"({"name":"weather","parameters":{"city":"mars","day":"friday"}})"),
            "<tool_response> wrong city </tool_response>");
  EXPECT_EQ(call(R"({"name":"fly","parameters":{}})"),
            "<tool_response> unknown tool </tool_response>");
  EXPECT_EQ(call("{\"name\":"), "<tool_response> not a call </tool_response>");
  const std::string pay = R"({"name":"pay","parameters":{"person":"ben","amount":"3"}})";
  EXPECT_EQ(call(pay + "\n" + pay), "<tool_response> done </tool_response>");
  EXPECT_EQ(call(pay + "\n{}"), "<tool_response> not a call </tool_response>");
  EXPECT_EQ(call("[" + pay + "," + pay + "]"), "<tool_response> done </tool_response>");
  EXPECT_EQ(call(R"({"name":"lamp"})"), "<tool_response> missing colour </tool_response>");
  EXPECT_EQ(call("[]"), "<tool_response> not a call </tool_response>");
  EXPECT_EQ(call(std::string(1000000, '[')), "<tool_response> not a call </tool_response>");
  EXPECT_EQ(reply("tools", "</tool_call>").first, "<tool_response> no call </tool_response>");
  row.extra.clear();
  EXPECT_THROW(reply("graph_search", "<search> anna boss </search>"), DataError);
}

TEST_F(Tasks, TablesHoldPlantedRewards) {
  const auto data = task("{type: planted_rewards, num_rows: 20}");
  for (int64_t i = 0; i < data->size(); ++i) {
    const auto row = data->get(i);
    const auto scores = score(
        "[{type: answer_table, table_column: helpful}, {type: answer_table, name: harmless, "
        "table_column: harmless}, {type: answer_table, name: both, table_column: both_good, "
        "missing: -1}]",
        row, {" 0", "5", "9 ", "10", ""});
    const auto help = scores.components.at("answer_table")[0],
               harm = scores.components.at("harmless")[0], both = scores.components.at("both")[0];
    EXPECT_LT(help[0].item<double>(), help[1].item<double>());
    EXPECT_LT(help[1].item<double>(), help[2].item<double>());
    EXPECT_GT(harm[0].item<double>(), harm[2].item<double>());
    EXPECT_EQ(both[1].item<double>(), 1.0);
    EXPECT_EQ(both[2].item<double>(), 0.0);
    EXPECT_EQ(both[3].item<double>(), -1.0);
    EXPECT_EQ(scores.unreadable.at("both/not_in_table").size(), 1u);
    EXPECT_EQ(scores.unreadable.at("both/empty").size(), 1u);
  }
  Example broken;
  broken.extra = {{"table", "[1]"}};
  EXPECT_THROW(score("[{type: answer_table}]", broken, {"1"}), DataError);
}

TEST_F(Tasks, BleuFollowsPlantedQualityAndMoreReferencesHelp) {
  // BLEUBERI's check: agreement with the planted order at least 85 % with one reference.
  const auto agreement = [&](int64_t num_references, int64_t seed) {
    const auto data =
        task("{type: writing_requests, mode: pair, num_rows: 400, error_rate: 0.1, seed: " +
             std::to_string(seed) + ", num_references: " + std::to_string(num_references) + "}");
    double right = 0.0;
    for (int64_t i = 0; i < data->size(); ++i) {
      const auto row = data->get(i);
      const auto references = texts_of(row.extra.at("reference"));
      const double better = sentence_bleu(row.chosen.text, references, BleuStyle::kHfSmooth),
                   worse = sentence_bleu(row.rejected.text, references, BleuStyle::kHfSmooth);
      right += better > worse ? 1.0 : better == worse ? 0.5 : 0.0;
    }
    return right / static_cast<double>(data->size());
  };
  double one = 0.0, five = 0.0;
  for (int64_t seed = 0; seed < 3; ++seed) {
    one += agreement(1, seed) / 3.0;
    five += agreement(5, seed) / 3.0;
  }
  RecordProperty("agreement_1", std::to_string(one));
  RecordProperty("agreement_5", std::to_string(five));
  std::printf("BLEU agrees with the planted order: %.3f with 1 reference, %.3f with 5\n", one,
              five);
  EXPECT_GE(one, 0.85);
  EXPECT_GE(five, one + 0.03);
}

TEST_F(Tasks, MeanOnlyAdvantagesWeighHardPromptsLess) {
  // HARMO's ratio test: groups of eight with one and with four right answers.
  auto rewards_PG = at::zeros({2, 8}, at::kDouble);
  rewards_PG[0][0] = 1.0;
  rewards_PG[1].narrow(0, 0, 4).fill_(1.0);
  const auto hard_share = [&](const std::string& scale) {
    const auto weight_P = group_advantages(rewards_PG, scale, *comm_).abs().sum(/*dim=*/1);
    return weight_P[0].item<double>() / weight_P[1].item<double>();
  };
  EXPECT_NEAR(hard_share("none"), 1.75 / 4.0, 1e-6);
  EXPECT_NEAR(hard_share("group"), (1.75 / 0.353553) / (4.0 / 0.534522), 1e-3);
}

}  // namespace
}  // namespace meed
