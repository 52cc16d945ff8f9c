#include "tests/algorithms/program.h"

// Every optimiser through the real program: it trains, leaves finite losses, resumes and gives the
// same losses on two processes.

namespace meed {
namespace {

class Optimisers : public ProgramTest {
 protected:
  static std::string write(const std::string& name, const std::string& algorithm,
                           const std::string& rest) {
    const auto path = folder_ / (name + ".yaml");
    std::ofstream(path) << "run: {output_dir: " << (folder_ / name).string()
                        << ", seed: 3, max_steps: 4, save_steps: 2}\n"
                        << "model: {path: " << (folder_ / "tiny").string() << "}\n"
                        << "algorithm: {" << algorithm << "}\n"
                        << "optim: {learning_rate: 1.0e-3, per_device_train_batch_size: 8, "
                           "lr_scheduler_type: constant}\n"
                        << rest;
    return path.string();
  }
  static std::string online(const std::string& name, const std::string& algorithm,
                            const std::string& rewards =
                                "[{type: format, pattern: \"[a-m]\", match: search}]") {
    return write(name, algorithm,
                 "data: {type: arithmetic, num_rows: 64}\nrewards: " + rewards +
                     "\nrollout: {num_generations: 4, max_completion_length: 6}\n");
  }
  /// A dataset of 16 rows.
  static std::string preferences(const std::string& name, const std::string& algorithm,
                                 bool paired) {
    const auto rows = folder_ / (paired ? "pairs.jsonl" : "singles.jsonl");
    std::ofstream file(rows);
    for (int i = 0; i < 16; ++i) {
      const auto number = std::to_string(i);
      if (paired)
        file << R"({"prompt": "Say )" << number << R"(:", "chosen": " )" << number
             << R"( it is", "rejected": " no, never", "margin": )" << i % 3 << "}\n";
      else
        file << R"({"prompt": "Say )" << number << R"(:", "completion": " )" << number
             << R"( it is", "label": )" << (i % 2 ? "true" : "false") << "}\n";
    }
    return write(name, algorithm, "data: {type: jsonl, path: " + rows.string() + "}\n");
  }
  static void expect_same_after_resuming(const std::string& path, const std::string& name) {
    const auto straight = folder_ / (name + "-straight"), resumed = folder_ / (name + "-resumed");
    ASSERT_EQ(run("train " + path + " run.output_dir=" + straight.string()), 0) << errors();
    ASSERT_EQ(run("train " + path + " run.max_steps=2 run.output_dir=" + resumed.string()), 0)
        << errors();
    ASSERT_EQ(run("train --resume " + path + " run.output_dir=" + resumed.string()), 0)
        << errors();
    EXPECT_EQ(losses(straight), losses(resumed)) << name;
  }
};

TEST_F(Optimisers, WithCriticOrWithoutGiveTheSameOnTwoProcesses) {
  const std::string half = "optim.per_device_train_batch_size=4";
  expect_equal_in_two_processes(
      online("ppo", "type: ppo, num_ppo_epochs: 2, kl_target: 0.1, kl_horizon: 50"), "ppo", half);
  expect_equal_in_two_processes(online("reinforce", "type: reinforce_plus_plus, beta: 0.01, "
                                                    "pre_clip: 1000, advantage_filter: 3"),
                                "reinforce", half);
  expect_equal_in_two_processes(
      online("win_rate", "type: grpo, num_iterations: 2, top_entropy_quantile: 0.5, entropy_coef: "
                         "0.01, importance_sampling_correction: sequence_truncate",
             "[{type: win_rate, judge: {type: reward, hard: true, reward: {type: format, pattern: "
             "\"[a-m]\", match: search}}}]"),
      "win_rate", half);
  expect_equal_in_two_processes(preferences("kto", "type: kto", /*paired=*/false), "kto", half);
}

/// A KL of next to no weight lets every group learn: the groups without a spread of rewards, which
/// are read without a gradient otherwise, must not have changed anything.
TEST_F(Optimisers, GroupsThatTeachNothingAreReadForTheirMetricsAlone) {
  const std::string rewards = "[{type: format, pattern: \"[a-m]{3}\", match: search}]";
  for (const std::string rest : {"num_iterations: 2", "num_iterations: 2, loss_type: vespo"}) {
    const auto path = online("equal_groups", "type: grpo, " + rest, rewards);
    const auto skips = folder_ / "equal_groups-skip", learns = folder_ / "equal_groups-learn";
    fs::remove_all(skips);
    fs::remove_all(learns);
    ASSERT_EQ(run("train " + path + " run.max_steps=8 run.output_dir=" + skips.string()), 0)
        << errors();
    ASSERT_EQ(run("train " + path +
                  " run.max_steps=8 algorithm.beta=1.0e-30 run.output_dir=" + learns.string()),
              0)
        << errors();
    double unvaried = 0.0;
    for (const auto* key :
         {"loss", "grad_norm", "entropy", "sampling/sampling_logp_difference/mean"}) {
      const auto a = metric(skips, key), b = metric(learns, key);
      ASSERT_EQ(a.size(), b.size());
      EXPECT_FALSE(a.empty()) << key;
      for (size_t i = 0; i < a.size(); ++i)
        EXPECT_NEAR(a[i], b[i], 1e-5) << key << " step " << i + 1;
    }
    for (const double share : metric(skips, "frac_reward_zero_std")) unvaried += share;
    EXPECT_GT(unvaried, 0.5);
  }
}

TEST_F(Optimisers, StateOfTheirOwnComesBackOnResume) {
  expect_same_after_resuming(
      online("ppo_resume", "type: ppo, num_ppo_epochs: 1, kl_target: 0.1, kl_horizon: 50",
             "[{type: length_penalty, free_tokens: 1, scale_tokens: 1, transforms: [{type: "
             "normalize, over: running}]}]"),
      "ppo_resume");
  EXPECT_TRUE(fs::exists(folder_ / "ppo_resume-straight/final/critic/config.json"));
}

TEST_F(Optimisers, RewardModelsOfEveryHeadTrainAndAreServed) {
  const auto recipe_of = [](const std::string& name, const std::string& more) {
    return preferences(name, "type: reward_modelling" + more, /*paired=*/true);
  };
  const std::map<std::string, std::string> recipes = {
      {"rm_linear", recipe_of("rm_linear", "")},
      {"rm_mlp", recipe_of("rm_mlp", ", pooling: mean, loss_type: scaled, margin: 1, head: {type: "
                                     "mlp}")},
      {"rm_mixture", recipe_of("rm_mixture", ", head: {type: mixture, heads: 2}")},
      {"rm_embedding", recipe_of("rm_embedding", ", freeze_backbone: true, head: {type: "
                                                 "preference_embedding, prompt_scaled: true}")}};
  const auto rows = folder_ / "pairs.jsonl";
  for (const auto& [name, path] : recipes) {
    expect_same_after_resuming(path, name);
    const auto model = folder_ / (name + "-straight") / "final";
    EXPECT_EQ(fs::exists(model / "meed.json"), name != "rm_linear");
    ASSERT_EQ(run("score --model " + model.string() + " --input " + rows.string() + " --output " +
                  (folder_ / "scores.jsonl").string()),
              0)
        << name << errors();
    std::ifstream scores(folder_ / "scores.jsonl");
    std::string line;
    ASSERT_TRUE(std::getline(scores, line));
    EXPECT_TRUE(Json::parse(line)["chosen_reward"].is_number()) << name;
    // `meed import` keeps the head.
    const auto imported = folder_ / (name + "-imported");
    ASSERT_EQ(run("import " + model.string() + " " + imported.string()), 0) << name << errors();
    ASSERT_EQ(run("score --model " + imported.string() + " --input " + rows.string() +
                  " --output " + (folder_ / "scores.jsonl").string()),
              0)
        << name << errors();
    std::ifstream again(folder_ / "scores.jsonl");
    std::string same;
    ASSERT_TRUE(std::getline(again, same));
    EXPECT_EQ(same, line) << name;
  }
  expect_equal_in_two_processes(recipes.at("rm_mixture"), "rm_mixture",
                                "optim.per_device_train_batch_size=4");
}

TEST_F(Optimisers, EveryLossTrains) {
  std::map<std::string, std::string> recipes;
  for (const std::string loss : {"luspo", "cispo", "sapo", "vespo", "gmpo", "clip_cov", "kl_cov"})
    recipes["grpo_" + loss] = online("grpo_" + loss, "type: grpo, loss_type: " + loss);
  for (const std::string estimator : {"rloo", "opo", "gpg", "pass_at_k"})
    recipes[estimator] = online(estimator, "type: grpo, advantage_estimator: " + estimator);
  recipes["dpo"] = preferences("dpo",
                               "type: dpo, loss_type: [sigmoid, bco_pair, sft], loss_weights: "
                               "[0.8, 0.2, 1.0], ld_alpha: 0.5, dynamic_beta_w: 0.5",
                               /*paired=*/true);
  recipes["cpo"] = preferences("cpo", "type: cpo, loss_type: simpo", /*paired=*/true);
  recipes["orpo"] = preferences("orpo", "type: orpo", /*paired=*/true);
  for (const auto& [name, path] : recipes) {
    ASSERT_EQ(run("train " + path + " run.max_steps=2"), 0) << name << errors();
    const auto values = losses(folder_ / name);
    ASSERT_EQ(values.size(), 2u) << name;
    for (const double value : values) EXPECT_TRUE(std::isfinite(value)) << name;
  }
}

}  // namespace
}  // namespace meed
