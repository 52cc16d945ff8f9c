#include <numeric>

#include "algorithms/dynamic_sampling.h"
#include "algorithms/group_selection.h"
#include "algorithms/grpo.h"
#include "algorithms/scored_rollouts.h"
#include "algorithms/token_rewards.h"
#include "libpolicy/core/run_context.h"
#include "libpolicy/distributed/communicator.h"
#include "libpolicy/generation/rollout_store.h"
#include "libpolicy/losses/gae.h"
#include "libreward/reward_pipeline.h"
#include "tests/algorithms/program.h"

// What the rollout/update loop offers every optimiser, and the optimisers that choose within
// groups.

namespace meed {
namespace {

TEST(DynamicSampling, VariedGroupsGoFirstInTheOrderOfTheData) {
  EXPECT_EQ(choose_groups({0, 1, 0, 1, 1}, 2), (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(choose_groups({0, 1, 0, 0}, 2), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(choose_groups({0, 0, 0}, 2), (std::vector<int64_t>{0, 1}));
}

ScoredRollouts rollouts_of(const std::vector<double>& rewards, int64_t groups) {
  const auto G = static_cast<int64_t>(rewards.size()) / groups;
  ScoredRollouts scored;
  scored.rewards_PG = at::tensor(rewards, at::kDouble).view({groups, G});
  scored.num_groups = groups;
  for (int64_t p = 0; p < groups; ++p) {
    scored.places.push_back(p);
    auto& group = scored.groups.emplace_back();
    for (int64_t g = 0; g < G; ++g) group.completions.emplace_back().token_ids = {7};
  }
  return scored;
}

TEST(GroupSelection, GroupsOfASmallGapGiveNoPair) {
  const auto scored = rollouts_of({1, 1.05, 0, 0.2, 0.5, 0.5}, 3);
  EXPECT_TRUE(at::equal(best_and_worst(scored, 0.1),
                        at::tensor({0.f, 0.f, -1.f, 1.f, 0.f, 0.f}).view({3, 2})));
  EXPECT_TRUE(
      at::equal(best_and_worst(scored), at::tensor({-1.f, 1.f, -1.f, 1.f, 0.f, 0.f}).view({3, 2})));
}

TEST(GroupSelection, BestAndWorstByRewardWithTiesToTheFirst) {
  const double nan = std::nan("");
  const auto scored = rollouts_of({1, 3, 3, 0, 0, nan, 5, nan, 2, 2, 2, 2}, 3);
  EXPECT_TRUE(at::equal(
      best_and_worst(scored),
      at::tensor({0.f, 1.f, 0.f, -1.f, -1.f, 0.f, 1.f, 0.f, 0.f, 0.f, 0.f, 0.f}).view({3, 4})));
  EXPECT_TRUE(at::equal(
      best_of_group(scored, 2, 2.5),
      at::tensor({0.f, 1.f, 1.f, 0.f, 0.f, 0.f, 1.f, 0.f, 0.f, 0.f, 0.f, 0.f}).view({3, 4})));
}

class LoopFeatures : public ProgramTest {
 protected:
  static constexpr const char* kFormat =
      "[{type: format, pattern: \"[kvw]\", match: search}, {type: length_penalty, free_tokens: 1, "
      "scale_tokens: 4, weight: 0.1}]";
  static std::string write(const std::string& name, const std::string& algorithm,
                           const std::string& rollout = "", const std::string& rewards = kFormat,
                           const std::string& data = "{type: arithmetic, num_rows: 64}") {
    const auto path = folder_ / (name + ".yaml");
    std::ofstream(path) << "run: {output_dir: " << (folder_ / name).string()
                        << ", seed: 3, max_steps: 4, save_steps: 2}\n"
                        << "model: {path: " << (folder_ / "tiny").string() << "}\n"
                        << "algorithm: {" << algorithm << "}\n"
                        << "optim: {learning_rate: 1.0e-3, per_device_train_batch_size: 16, "
                           "lr_scheduler_type: constant}\n"
                        << "data: " << data << "\nrewards: " << rewards
                        << "\nrollout: {num_generations: 4, max_completion_length: 6" << rollout
                        << "}\n";
    return path.string();
  }
  static void expect_same_after_resuming(const std::string& path, const std::string& name) {
    const auto straight = folder_ / (name + "-straight"), resumed = folder_ / (name + "-resumed");
    ASSERT_EQ(run("train " + path + " run.output_dir=" + straight.string()), 0) << name << errors();
    ASSERT_EQ(run("train " + path + " run.max_steps=2 run.output_dir=" + resumed.string()), 0)
        << name << errors();
    ASSERT_EQ(run("train --resume " + path + " run.output_dir=" + resumed.string()), 0)
        << name << errors();
    EXPECT_EQ(losses(straight), losses(resumed)) << name;
  }
  /// The last value of a metric.
  static double last(const fs::path& output_dir, const std::string& key) {
    double value = std::nan("");
    std::ifstream file(output_dir / "metrics.jsonl");
    for (std::string line; std::getline(file, line);)
      if (const auto json = Json::parse(line); json.contains(key) && json[key].is_number())
        value = json[key].get<double>();
    return value;
  }
};

TEST_F(LoopFeatures, OptimisersWithinGroupsTrainResumeAndAgreeOnTwoProcesses) {
  const std::string half = "optim.per_device_train_batch_size=8";
  const std::map<std::string, std::string> algorithms = {
      {"online_dpo",
       "type: online_dpo, loss_type: [sigmoid, sft], dynamic_beta_w: 0.5, num_iterations: 2, "
       "sync_ref_model: true, ref_model_sync_steps: 2, ref_model_mixup_alpha: 1"},
      {"gpo", "type: gpo, beta: 0.5, num_iterations: 2, log_z: group"},
      {"steerlm", "type: steerlm, prior_prompt_column: question, num_iterations: 2"},
      {"rejection_sampling", "type: rejection_sampling, num_best: 2, num_iterations: 2"},
      {"rloo",
       "type: rloo, beta: 0.1, num_iterations: 2, normalize_advantages: true, "
       "reward_clip_range: [-1, 1]"},
      {"kl_cov", "type: grpo, loss_type: kl_cov, num_iterations: 2"},
      {"clip_cov", "type: grpo, loss_type: clip_cov, clip_cov_low: 0.01, num_iterations: 2"},
      {"gdpo",
       "type: grpo, multi_objective_aggregation: normalize_then_sum, std: population, "
       "use_adaptive_entropy: true, entropy_coef: 0.01, entropy_target: 20"},
      {"remax", "type: grpo, advantage_estimator: remax"}};
  for (const auto& [name, algorithm] : algorithms)
    expect_equal_in_two_processes(write(name, algorithm), name, half);
  // Those that keep something from step to step.
  for (const std::string name : {"online_dpo", "gdpo", "clip_cov"})
    expect_same_after_resuming(write(name, algorithms.at(name)), name);
}

TEST_F(LoopFeatures, DynamicSamplingFillsTheBatchTheSameOnTwoProcessesAndAfterResuming) {
  const auto path = write("dynamic", "type: grpo", ", dynamic_sampling: true",
                          "[{type: format, pattern: \"[kvw]\", match: search}]");
  expect_equal_in_two_processes(path, "dynamic", "optim.per_device_train_batch_size=8");
  expect_same_after_resuming(path, "dynamic");
  const auto output = folder_ / "dynamic-straight";
  EXPECT_GE(last(output, "dynamic_sampling/num_gen_batches"), 1.0);
  EXPECT_EQ(last(output, "frac_reward_zero_std"), 0.0);
  // Where no group differs the bound holds and the run goes on.
  const auto never =
      write("never", "type: grpo", ", dynamic_sampling: true, max_num_gen_batches: 2",
            "[{type: format, pattern: \"qqqqqq\", match: search}]");
  ASSERT_EQ(run("train " + never + " run.max_steps=1"), 0) << errors();
  EXPECT_EQ(last(folder_ / "never", "dynamic_sampling/num_gen_batches"), 2.0);
  EXPECT_EQ(last(folder_ / "never", "dynamic_sampling/num_filled"), 4.0);
}

TEST_F(LoopFeatures, StoredRolloutsAreReplayedAndTrainedOffline) {
  const auto path = write("stored", "type: grpo, num_iterations: 2", ", store: true");
  ASSERT_EQ(run("train " + path), 0) << errors();
  const auto store = folder_ / "stored/rollouts";
  const auto files = RolloutStore(store).files();
  ASSERT_EQ(files.size(), 2u);
  const auto first = RolloutStore::read(files[0]);
  EXPECT_EQ(first.groups.size(), 4u);
  EXPECT_EQ(first.components.size(), 2u);
  // The same updates from the same weights; the engine's log-probabilities stand for the old ones.
  ASSERT_EQ(run("train " + path + " rollout.store=false rollout.replay=" + store.string() +
                " run.output_dir=" + (folder_ / "replayed").string()),
            0)
      << errors();
  const auto a = losses(folder_ / "stored"), b = losses(folder_ / "replayed");
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-4);
  for (const std::string form : {"pairs", "best", "labels"}) {
    const std::string algorithm = form == "pairs" ? "dpo" : form == "best" ? "sft" : "kto";
    const auto offline =
        write("offline_" + form, "type: " + algorithm, "", "[]",
              "{type: rollouts, path: " + store.string() + ", form: " + form + "}");
    ASSERT_EQ(run("train " + offline + " run.max_steps=1"), 0) << form << errors();
    EXPECT_TRUE(std::isfinite(losses(folder_ / ("offline_" + form))[0])) << form;
  }
}

TEST_F(LoopFeatures, TwoProcessesStoreWhatOneDoes) {
  const auto path = write("stored_by_two", "type: grpo", ", store: true");
  expect_equal_in_two_processes(path, "stored_by_two", "optim.per_device_train_batch_size=8");
  const auto one = RolloutStore(folder_ / "stored_by_two-one/rollouts").files();
  const auto two = RolloutStore(folder_ / "stored_by_two-many/rollouts").files();
  ASSERT_EQ(one.size(), two.size());
  const auto a = RolloutStore::read(one[0]), b = RolloutStore::read(two[0]);
  ASSERT_EQ(a.groups.size(), b.groups.size());
  for (size_t p = 0; p < a.groups.size(); ++p)
    EXPECT_EQ(a.groups[p].completions[0].token_ids, b.groups[p].completions[0].token_ids);
  EXPECT_TRUE(at::allclose(a.rewards_PG, b.rewards_PG));
}

TEST_F(LoopFeatures, CooperTrainsPolicyAndVerifierTogether) {
  const auto pairs = write("verifier", "type: reward_modelling", "", "[]",
                           "{type: verification, data: {type: arithmetic, num_rows: 64}}");
  ASSERT_EQ(run("train " + pairs + " run.max_steps=2"), 0) << errors();
  const auto verifier = (folder_ / "verifier/final").string();
  // The rule: completions with one of these letters are right, so that there are pairs.
  const auto cooper = write(
      "cooper",
      "type: cooper, rule: rule, beta: 0.02, negatives: policy, verifier_learning_rate: 1.0e-3, "
      "verify_steps: 2, verify_data: {type: verification, template: \"{prompt}\", data: {type: "
      "arithmetic, num_rows: 8}}",
      "",
      "[{type: verifier, trainable: true, path: " + verifier +
          "}, {type: format, name: rule, weight: 0, pattern: \"[kvw]\", match: search}]");
  expect_equal_in_processes(2, cooper, "cooper", "optim.per_device_train_batch_size=8");
  expect_equal_in_processes(4, cooper, "cooper", "optim.per_device_train_batch_size=4");
  expect_same_after_resuming(cooper, "cooper");
  const auto output = folder_ / "cooper-straight";
  // An assistant that ends its texts soon; some of what it writes the rule finds wrong.
  const auto assistant =
      " algorithm.negatives=assistant algorithm.assistant.path=" + (folder_ / "tiny").string() +
      " algorithm.assistant.chat=false 'algorithm.assistant.stop=[a, e, i, o, s, t]'" +
      " algorithm.assistant.num_samples=4 algorithm.assistant.max_completion_length=16";
  expect_equal_in_processes(2, cooper + assistant, "cooper-assistant",
                            "optim.per_device_train_batch_size=8");
  EXPECT_GT(last(folder_ / "cooper-assistant-one", "verifier/pairs"), 0.0);
  ASSERT_EQ(run("train " + cooper + " algorithm.negatives=assistant run.output_dir=" +
                (folder_ / "cooper-bad").string()),
            2);
  EXPECT_NE(errors().find("assistant.path"), std::string::npos) << errors();
  EXPECT_GT(last(output, "verifier/pairs"), 0.0);
  EXPECT_TRUE(fs::exists(output / "final/reward_model/config.json"));
  EXPECT_GE(last(output, "verifier/heldout_accuracy"), 0.0);
  ASSERT_EQ(run("train " + cooper +
                " algorithm.rule=none run.output_dir=" + (folder_ / "cooper-bad").string()),
            2);
  EXPECT_NE(errors().find("algorithm.rule: \"none\" names no reward"), std::string::npos);
}

TEST_F(LoopFeatures, DpoPrecomputesWeighsAndMovesItsReference) {
  const auto rows = folder_ / "dpo-pairs.jsonl";
  {
    std::ofstream file(rows);
    for (int i = 0; i < 16; ++i)
      file << R"({"prompt": "Say )" << i << R"(:", "chosen": " )" << i
           << R"( it is", "rejected": " no, never"})"
           << "\n";
  }
  const auto dpo = [&](const std::string& name, const std::string& more) {
    const auto path = folder_ / (name + ".yaml");
    std::ofstream(path) << "run: {output_dir: " << (folder_ / name).string()
                        << ", seed: 3, max_steps: 4, save_steps: 2}\n"
                        << "model: {path: " << (folder_ / "tiny").string() << "}\n"
                        << "algorithm: {type: dpo" << more << "}\n"
                        << "optim: {learning_rate: 1.0e-3, per_device_train_batch_size: 8, "
                           "lr_scheduler_type: constant}\n"
                        << "data: {type: jsonl, path: " << rows.string() << "}\n";
    return path.string();
  };
  ASSERT_EQ(run("train " + dpo("dpo_plain", "")), 0) << errors();
  const auto precomputed = dpo("dpo_precomputed", ", precompute_ref_log_probs: true");
  expect_equal_in_two_processes(precomputed, "dpo_precomputed",
                                "optim.per_device_train_batch_size=4");
  const auto a = losses(folder_ / "dpo_plain"), b = losses(folder_ / "dpo_precomputed-one");
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5);
  ASSERT_EQ(run("train " + dpo("dpo_weighted", ", use_weighting: true")), 0) << errors();
  EXPECT_LT(losses(folder_ / "dpo_weighted")[0], a[0]);  // weights are below 1 here
  expect_same_after_resuming(dpo("dpo_moving", ", sync_ref_model: true, ref_model_sync_steps: 1"),
                             "dpo_moving");
  ASSERT_EQ(
      run("train " + dpo("dpo_bad", ", sync_ref_model: true, precompute_ref_log_probs: true")), 2);
  EXPECT_NE(errors().find("precompute_ref_log_probs"), std::string::npos);
}

TEST_F(LoopFeatures, StepRewardsStandOnTheLastTokenOfEachStep) {
  const auto tokenizer = Tokenizer::load(kTokenizer);
  std::vector<RolloutGroup> groups(1);
  auto& completion = groups[0].completions.emplace_back();
  completion.token_ids = tokenizer->encode("a\n\nb\n\nc");
  const auto ends = step_ends(completion, *tokenizer, "\n\n");
  ASSERT_EQ(ends.size(), 3u);
  PipelineScores scores{.rewards_PG = at::ones({1, 1}, at::kDouble),
                        .steps_PGS = {{{0.5, std::nan(""), 0.25, 0.125}}}};
  int64_t mismatches = 0;
  const auto scored = make_scored(groups, scores, *tokenizer, "\n\n", 0, 1, 1, &mismatches);
  const auto& tokens = scored.tokens_PGT[0][0];
  ASSERT_EQ(tokens.size(), completion.token_ids.size());
  EXPECT_EQ(tokens[static_cast<size_t>(ends[0])], 0.5);
  EXPECT_EQ(tokens[static_cast<size_t>(ends[1])], 0.0);
  EXPECT_EQ(tokens[static_cast<size_t>(ends[2])], 0.375);  // the fourth has no step of its own
  EXPECT_EQ(mismatches, 1);
  EXPECT_EQ(std::accumulate(tokens.begin(), tokens.end(), 0.0), 0.875);
}

/// Process rewards through their transforms into PPO's and REINFORCE++'s token rewards.
TEST_F(LoopFeatures, StepRewardsReachTokenLevelOptimisers) {
  const std::string rewards =
      "[{type: chain_steps, transforms: [{type: step_clip, eta: 0.92}, {type: step_delta}]}, "
      "{type: format, pattern: \"[kvw]\", match: search}]";
  const std::map<std::string, std::string> algorithms = {
      {"steps_ppo", "type: ppo, num_ppo_epochs: 1"}, {"steps_rpp", "type: reinforce_plus_plus"}};
  for (const auto& [name, algorithm] : algorithms) {
    const auto path = write(name, algorithm, ", step_separator: \";\"", rewards,
                            "{type: chain_sums, num_rows: 64}");
    expect_equal_in_two_processes(path, name, "optim.per_device_train_batch_size=8");
  }
}

/// PPR's equations with the numbers of a trajectory of four steps: R_t = r_p,t + r_o - 1, and r_o
/// once, on the last step.
TEST(StepRewards, RenormGivesTheOutcomeOnce) {
  const auto comm = Communicator::create({}, at::kCPU, "single");
  NullMetrics metrics;
  RunContext context{.comm = *comm, .metrics = metrics};
  RolloutGroup group;
  group.example.prompt.text = "anna boss friend ?";
  group.example.extra = {{"answer", "carla"}, {"graph", "anna boss ben;ben friend carla;"}};
  const std::string first = "<search> anna boss </search><result> ben </result>",
                    second = "<search> ben friend </search><result> carla </result>";
  // A right answer, and a wrong one behind a search that was made twice: r_p = (1, 2/3, 2/3).
  for (const auto& text : {first + second + "<answer> carla </answer>",
                           first + first + second + "<answer> ben </answer>"}) {
    auto& completion = group.completions.emplace_back();
    completion.text = text;
    completion.token_ids.assign(8, 7);
    completion.step_ends = {1, 3, 5, 7};
  }
  group.completions[0].step_ends = {1, 3, 7};
  struct Case {
    std::string transforms;
    std::vector<double> right, wrong;  // rewards of the tokens 1, 3, (5,) 7
  };
  const double third = 1.0 / 3;
  for (const auto& [transforms, right, wrong] :
       {Case{"[{type: renorm}]", {1, 1, 0, 1}, {0, -third, -third, 0}},
        Case{"[{type: renorm, centred_outcome: true}]", {1, 1, 0, .5}, {0, -third, -third, -.5}},
        Case{"[{type: renorm, centre: false}]", {2, 2, 0, 1}, {1, 1 - third, 1 - third, 0}},
        Case{"[{type: renorm}, {type: scale, factor: 2}]",
             {2, 2, 0, 2},
             {0, -2 * third, -2 * third, 0}},
        Case{"[{type: renorm}, {type: sum_steps}]", {0, 0, 0, 3}, {0, 0, 0, -2 * third}},
        Case{"[]", {1, 1, 0, 1}, {1, 1 - third, 1 - third, 0}}}) {
    RewardPipeline pipeline(
        ConfigNode::parse_string("[{type: search_principles, transforms: " + transforms + "}]")
            .items(),
        context);
    if (!fs::exists(kTokenizer)) GTEST_SKIP();
    const auto tokenizer = Tokenizer::load(kTokenizer);
    int64_t mismatches = 0;
    const std::vector<RolloutGroup> groups{group};
    const auto scored =
        make_scored(groups, pipeline.score(groups), *tokenizer, "", 0, 1, 1, &mismatches);
    EXPECT_EQ(mismatches, 0);
    for (size_t g = 0; g < 2; ++g) {
      const CompletionTokens tokens{.group = 0, .index = g, .mask_T = at::ones({8})};
      const auto rewards_T = token_rewards(scored, tokens, 0.0, "k1").rewards_T;
      const auto& wanted = g == 0 ? right : wrong;
      for (int64_t t = 0; t < 8; ++t)
        EXPECT_NEAR(rewards_T[t].item<double>(),
                    t % 2 == 1 ? wanted[static_cast<size_t>(t / 2)] : 0.0, 1e-12)
            << transforms << g << t;
      // Without a critic and at gamma 1 the first token's advantage is the whole return.
      const auto gae = compute_gae(rewards_T, at::zeros({8}, at::kDouble), 1.0, 1.0);
      EXPECT_NEAR(gae.advantages_T[0].item<double>(),
                  std::accumulate(wanted.begin(), wanted.end(), 0.0), 1e-12);
    }
  }
}

/// Outcomes that no step holds still count, beside the steps.
TEST_F(LoopFeatures, ProcessSupervisionGivesEveryTokenTheStepsThatEndBehindIt) {
  const auto comm = Communicator::create({}, at::kCPU, "single");
  NullMetrics metrics;
  RunContext context{.comm = *comm, .metrics = metrics};
  ScoredRollouts scored;
  auto& group = scored.groups.emplace_back();
  for (const auto& ends : {std::vector<int64_t>{1, 3}, std::vector<int64_t>{2}}) {
    auto& completion = group.completions.emplace_back();
    completion.token_ids.assign(5, 7);
    completion.step_ends = ends;
  }
  scored.num_groups = 1;
  scored.places = {0};
  scored.rewards_PG = at::tensor({1.0, 0.0}, at::kDouble).view({1, 2});
  scored.tokens_PGT = {{{0, 2, 0, 1, 0}, {0, 0, 0, 0, 0}}};  // step rewards 2, 1 and 0: mean 1
  std::vector<CompletionTokens> tokens{{.group = 0, .index = 0, .mask_T = at::ones({5})},
                                       {.group = 0, .index = 1, .mask_T = at::ones({5})}};
  const auto advantages = [&](const std::string& mode) {
    Grpo::Config config;
    config.process_supervision = mode;
    config.scale_rewards = "none";
    Grpo grpo(config, context);
    const auto first_PG = grpo.advantages(scored, *comm);
    grpo.token_advantages(scored, tokens, *comm, metrics);
    EXPECT_EQ(first_PG[0][0].item<double>(), tokens[0].advantages_T[0].item<double>());
    return at::cat({tokens[0].advantages_T, tokens[1].advantages_T});
  };
  EXPECT_TRUE(at::allclose(advantages("steps"),
                           at::tensor({1.f, 1.f, 0.f, 0.f, 0.f, -1.f, -1.f, -1.f, 0.f, 0.f})));
  EXPECT_TRUE(
      at::allclose(advantages("outcome_and_steps"),
                   at::tensor({1.5f, 1.5f, .5f, .5f, .5f, -1.5f, -1.5f, -1.5f, -.5f, -.5f})));
}

TEST_F(LoopFeatures, GrpoWithProcessSupervisionTrainsAndAgreesOnTwoProcesses) {
  const std::string rewards = "[{type: chain_steps, transforms: [{type: step_clip, eta: 0.92}]}]";
  const auto path = write(
      "process",
      "type: grpo, process_supervision: outcome_and_steps, num_iterations: 2, scale_rewards: batch",
      ", step_separator: \";\"", rewards, "{type: chain_sums, num_rows: 64}");
  expect_equal_in_two_processes(path, "process", "optim.per_device_train_batch_size=8");
  EXPECT_GE(last(folder_ / "process-one", "completions/mean_steps"), 0.0);
  const auto refused = [&](const std::string& overrides, const std::string& reason) {
    EXPECT_EQ(run("train " + path + " " + overrides +
                  " run.output_dir=" + (folder_ / "process-bad").string()),
              2)
        << overrides;
    EXPECT_NE(errors().find(reason), std::string::npos) << errors();
  };
  refused("algorithm.process_supervision=none",
          "step_clip changes step rewards, which grpo does not read without process_supervision");
  refused("algorithm.advantage_estimator=rloo", "needs advantage_estimator: group");
  refused("algorithm.loss_type=vespo", "weighs whole sequences");
  refused("algorithm.importance_sampling_level=sequence", "needs importance_sampling_level: token");
  refused("rollout.dynamic_sampling=true", "whatever their steps");
  refused("'rewards=[{type: math_answer}]'", "process_supervision needs a reward of steps");
}

/// The features of opinion summaries from their pairs into the loop: the head that reward_head
/// trains is the reward of a policy.
TEST_F(LoopFeatures, OpinionFeaturesRewardAPolicy) {
  const auto head = folder_ / "opinions.yaml";
  std::ofstream(head) << "run: {output_dir: " << (folder_ / "opinions").string()
                      << ", max_steps: 30}\n"
                      << "algorithm: {type: reward_head, head: {type: mlp, layers: 2, activation: "
                         "silu, hidden_size: 16}}\n"
                      << "data: {type: opinion_summaries, num_rows: 200}\n"
                      << "optim: {learning_rate: 0.01, per_device_train_batch_size: 100}\n";
  ASSERT_EQ(run("train " + head.string()), 0) << errors();
  const auto path =
      write("opinion_policy", "type: ppo, num_ppo_epochs: 1", "",
            "[{type: opinion_features, path: " + (folder_ / "opinions/final").string() + "}]",
            "{type: opinion_summaries, num_rows: 16}");
  ASSERT_EQ(run("train " + path + " run.max_steps=2"), 0) << errors();
  EXPECT_TRUE(std::isfinite(last(folder_ / "opinion_policy", "rewards/opinion_features/mean")));
  EXPECT_GE(last(folder_ / "opinion_policy", "rewards/opinion_features/hallucination"), 0.0);
}

TEST_F(LoopFeatures, StepsEndAtTheirSeparator) {
  const auto tokenizer = Tokenizer::load(kTokenizer);
  Completion completion;
  completion.token_ids = tokenizer->encode("first step\n\nsecond\n\nthird");
  const auto ends = step_ends(completion, *tokenizer, "\n\n");
  ASSERT_EQ(ends.size(), 3u);
  EXPECT_EQ(ends.back(), static_cast<int64_t>(completion.token_ids.size()) - 1);
  const std::span<const int64_t> ids = completion.token_ids;
  EXPECT_TRUE(
      tokenizer->decode(ids.subspan(0, static_cast<size_t>(ends[0]) + 1)).ends_with("step\n\n"));
  EXPECT_EQ(step_ends(completion, *tokenizer, "").size(), 1u);
  completion.step_ends = {1};
  EXPECT_EQ(step_ends(completion, *tokenizer, "\n\n"), completion.step_ends);
}

}  // namespace
}  // namespace meed
