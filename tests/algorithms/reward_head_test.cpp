#include "tests/algorithms/program.h"

#include <ATen/ATen.h>

#include "libpolicy/checkpoint/safetensors.h"

// Heads on vectors through the real program: every loss on two processes and after a stop, stages
// that build on each other, ensembles, what is served, and what is refused.

namespace meed {
namespace {

class RewardHeads : public ProgramTest {
 protected:
  static std::string write(const std::string& name, const std::string& algorithm,
                           const std::string& data, const std::string& more = "") {
    const auto path = folder_ / (name + ".yaml");
    std::ofstream(path) << "run: {output_dir: " << (folder_ / name).string()
                        << ", seed: 3, max_steps: 4, save_steps: 2}\n"
                        << "algorithm: {" << algorithm << "}\n"
                        << "data: {" << data << "}\n"
                        << "eval_data: {" << data << ", split: eval}\n"
                        << "optim: {learning_rate: 0.05, per_device_train_batch_size: 12, "
                           "lr_scheduler_type: constant}\n"
                        << more;
    return path.string();
  }
  static std::string heads(const std::string& name, const std::string& algorithm,
                           const std::string& data = "type: noisy_preferences, num_rows: 40") {
    return write(name, "type: reward_head" + (algorithm.empty() ? "" : ", " + algorithm), data);
  }
  static Json last_line(const std::string& name) {
    std::ifstream file(folder_ / name / "metrics.jsonl");
    Json merged;
    for (std::string line; std::getline(file, line);) merged.update(Json::parse(line));
    return merged;
  }
  static void expect_trained(const std::string& path, const std::string& name) {
    ASSERT_EQ(run("train " + path), 0) << name << errors();
  }
};

TEST_F(RewardHeads, EveryLossGivesTheSameOnTwoProcesses) {
  const std::string half = "optim.per_device_train_batch_size=6";
  const std::string ratings = "type: strength_preferences, kind: ratings, num_rows: 40",
                    strengths = "type: strength_preferences, num_rows: 40",
                    tastes = "type: three_tastes, num_rows: 40",
                    lengths = "type: product_preferences, num_rows: 40";
  const std::map<std::string, std::string> recipes = {
      {"bt", heads("bt", "center_rewards_coefficient: 0.1, margin: 0.3")},
      {"smoothing", heads("smoothing", "label_smoothing: 0.1, head: {type: mlp}")},
      {"margin", heads("margin", "loss_type: margin", strengths)},
      {"scaled", heads("scaled", "loss_type: scaled", strengths)},
      {"length_norm", heads("length_norm", "length_norm: 100", lengths)},
      {"mixture", heads("mixture", "head: {type: mixture, heads: 2, router_hidden: 8}", tastes)},
      {"embedding", heads("embedding", "head: {type: preference_embedding, prompt_scaled: true}",
                          "type: cyclic_preferences, num_rows: 40")},
      {"aspects", heads("aspects",
                        "head: {type: aspects, gate_hidden: 8, gate_layers: 1, aspects: {aspect_a: "
                        "\"criterion_0, criterion_1\", aspect_b: criterion_0}}, label_columns: "
                        "[aspect_a/criterion_0, aspect_a/criterion_1, aspect_b/criterion_0], "
                        "aspect_columns: [aspect_a, aspect_b], ensemble: {num_members: 2}",
                        "type: aspect_preferences, num_rows: 40, criteria: [2, 1], "
                        "missing_share: 0.5")},
      {"regression",
       heads("regression", "loss_type: regression, label_columns: [helpfulness]", ratings)},
      {"verifier", heads("verifier", "loss_type: verifier, label_columns: [flagged]",
                         "type: length_biased_preferences, num_rows: 40")},
      {"adversarial", heads("adversarial", "loss_type: adversarial",
                            "type: gridworld_demonstrations, num_rows: 40")},
      {"both", heads("both", "loss_type: pair_and_regression, label_columns: [gold]",
                     "type: length_biased_preferences, num_rows: 40")},
      {"ensemble", heads("ensemble", "ensemble: {num_members: 3, bootstrap: true}")},
      {"orders", heads("orders", "ensemble: {num_members: 3, vary: order}")},
      {"rated_orders", heads("rated_orders",
                             "ensemble: {num_members: 2}, head: {type: attributes}, label_columns: "
                             "[helpfulness, correctness, coherence, complexity, verbosity]",
                             "type: attribute_ratings, num_rows: 40, missing_share: 0.5")},
      {"info_nce", heads("info_nce", "head: {type: mlp}, contrastive: {coef: 0.5}")},
      {"swav", heads("swav",
                     "head: {type: mlp}, contrastive: {coef: 0.5, kind: swav, features: "
                     "responses, num_prototypes: 4}")},
      {"meta", heads("meta",
                     "meta: {data: {type: noisy_preferences, num_rows: 9, num_candidates: 3, "
                     "split: other}, batch_size: 4}")},
      {"irl",
       write("irl", "type: max_entropy_irl", "type: gridworld_demonstrations, num_rows: 40")}};
  for (const auto& [name, path] : recipes) expect_equal_in_two_processes(path, name, half);
  for (const char* key : {"eval_aspect_accuracy", "eval_gate_accuracy"}) {
    std::ifstream file(folder_ / "aspects-one/metrics.jsonl");
    Json merged;
    for (std::string line; std::getline(file, line);) merged.update(Json::parse(line));
    EXPECT_TRUE(merged.contains(key)) << key;
  }
}

TEST_F(RewardHeads, ResumeGoesOnAsIfNothingHadHappened) {
  for (const std::string algorithm :
       {"head: {type: mlp}, contrastive: {coef: 0.5, kind: swav}",
        "ensemble: {num_members: 3, vary: order}",
        "ensemble: {num_members: 2, bootstrap: true}, meta: {data: {type: noisy_preferences, "
        "num_rows: 9, num_candidates: 3, split: other}}"}) {
    const auto path = heads("resume", algorithm);
    const auto straight = folder_ / "straight", resumed = folder_ / "resumed";
    fs::remove_all(straight);
    fs::remove_all(resumed);
    ASSERT_EQ(run("train " + path + " run.output_dir=" + straight.string()), 0) << errors();
    ASSERT_EQ(run("train " + path + " run.max_steps=2 run.output_dir=" + resumed.string()), 0);
    ASSERT_EQ(run("train --resume " + path + " run.output_dir=" + resumed.string()), 0) << errors();
    EXPECT_EQ(losses(straight), losses(resumed)) << algorithm;
  }
}

TEST_F(RewardHeads, MembersDifferByWhatTheRecipeSays) {
  const auto member = [&](const std::string& name, int64_t m) {
    return SafetensorsFile(folder_ / name / "final" / ("member-" + std::to_string(m)) /
                           "head.safetensors")
        .load("score.weight");
  };
  const auto train = [&](const std::string& vary, const std::string& more = "") {
    const auto name = "vary_" + vary + std::to_string(more.size());
    expect_trained(heads(name, "ensemble: {num_members: 2, vary: " + vary + "}") + more, name);
    return name;
  };
  // Ten steps of four rows are an epoch; a rate of next to nothing leaves the first weights.
  const std::string still = " optim.learning_rate=1e-20",
                    epoch = " run.max_steps=10 optim.per_device_train_batch_size=4";
  const auto init = train("init", still), order = train("order", still),
             both = train("finetune", still);
  EXPECT_FALSE(at::allclose(member(init, 0), member(init, 1)));
  EXPECT_TRUE(at::allclose(member(order, 0), member(order, 1)));
  EXPECT_FALSE(at::allclose(member(both, 0), member(both, 1)));
  EXPECT_TRUE(at::equal(member(init, 0), member(order, 0)));
  const auto moved = train("order", epoch);
  EXPECT_FALSE(at::equal(member(moved, 0), member(moved, 1)));
  // The first member is the single head, up to what the others' gradients do to their clipping; a
  // full batch has no order.
  expect_trained(heads("single", "") + epoch, "single");
  const auto single =
      SafetensorsFile(folder_ / "single/final/head.safetensors").load("score.weight");
  EXPECT_TRUE(at::allclose(member(moved, 0), single, 0.02, 0.02));
  const auto whole = train("order", " optim.per_device_train_batch_size=40");
  EXPECT_TRUE(at::allclose(member(whole, 0), member(whole, 1), 1e-4, 1e-5));
}

TEST_F(RewardHeads, AMetaStepOfZeroIsNone) {
  expect_trained(heads("plain", ""), "plain");
  expect_trained(heads("meta_zero",
                       "meta: {learning_rate: 0, data: {type: noisy_preferences, "
                       "num_rows: 9, num_candidates: 3}}"),
                 "meta_zero");
  EXPECT_EQ(losses(folder_ / "plain"), losses(folder_ / "meta_zero"));
}

TEST_F(RewardHeads, AnEnsembleMendsLabelsAndIsServed) {
  expect_trained(heads("voters", "ensemble: {num_members: 3, bootstrap: true}"), "voters");
  const auto final_folder = folder_ / "voters/final";
  EXPECT_TRUE(fs::exists(final_folder / "member-2/head.safetensors"));
  EXPECT_TRUE(last_line("voters").contains("eval_member_accuracy/mean"));
  for (const std::string use : {"flip, margin", "drop", "soft"})
    expect_trained(
        heads("mended_" + use.substr(0, 4), "strength: {ensemble: " + final_folder.string() +
                                                ", use: [" + use + "], share: 0.3}"),
        use);
  const auto rows = folder_ / "vectors.jsonl", scores = folder_ / "scores.jsonl";
  std::ofstream(rows) << R"({"features": [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]})"
                      << "\n"
                      << R"({"chosen_features": [1, 0, 0, 0, 0, 0, 0, 0, 0, 0], )"
                      << R"("rejected_features": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]})"
                      << "\n";
  ASSERT_EQ(run("score --model " + final_folder.string() + " --input " + rows.string() +
                " --output " + scores.string()),
            0)
      << errors();
  std::ifstream file(scores);
  std::string single, pair;
  std::getline(file, single);
  std::getline(file, pair);
  EXPECT_EQ(Json::parse(single)["reward"], Json::parse(pair)["chosen_reward"]);
  EXPECT_EQ(Json::parse(pair)["rejected_reward"], 0.0);
  std::ofstream(rows) << R"({"features": [1, 2]})"
                      << "\n";
  EXPECT_EQ(run("score --model " + final_folder.string() + " --input " + rows.string()), 1);
  EXPECT_NE(errors().find("vectors.jsonl:1: expected features of 10 numbers, got 2"),
            std::string::npos)
      << errors();
}

TEST_F(RewardHeads, StagesBuildOnEachOther) {
  const std::string tastes = "type: three_tastes, num_rows: 40, user_known: true",
                    head = "head: {type: mixture, heads: 3, router_hidden: 8}";
  expect_trained(heads("stage_1", head, tastes), "stage_1");
  const auto first = (folder_ / "stage_1/final").string();
  expect_trained(
      heads("stage_2", head + ", loss_type: router, freeze: [heads], init_from: " + first, tastes),
      "stage_2");
  const auto weights = [&](const std::string& name) {
    return SafetensorsFile(folder_ / name / "final/head.safetensors");
  };
  EXPECT_TRUE(
      at::equal(weights("stage_1").load("heads.weight"), weights("stage_2").load("heads.weight")));
  EXPECT_FALSE(at::equal(weights("stage_1").load("router.1.weight"),
                         weights("stage_2").load("router.1.weight")));
  EXPECT_TRUE(last_line("stage_2").contains("eval_best_head_accuracy"));
}

TEST_F(RewardHeads, HiddenStatesOfABackboneAreKeptAndServedOnTexts) {
  const auto rows = folder_ / "texts.jsonl";
  std::ofstream texts(rows);
  for (int i = 0; i < 16; ++i)
    texts << R"({"prompt": "Say )" << i << R"(:", "chosen": " )" << i
          << R"( it is", "rejected": " no, never"})"
          << "\n";
  texts.close();
  const auto data = "type: features, model: " + (folder_ / "tiny").string() +
                    ", cache_dir: " + (folder_ / "cache").string() +
                    ", data: {type: jsonl, path: " + rows.string() + "}";
  const auto recipe = [&](const std::string& name, const std::string& pooling) {
    const auto path = folder_ / (name + ".yaml");
    std::ofstream(path) << "run: {output_dir: " << (folder_ / name).string()
                        << ", max_steps: 3, save_steps: 0}\nalgorithm: {type: reward_head}\ndata: {"
                        << data << ", pooling: " << pooling << "}\n"
                        << "optim: {per_device_train_batch_size: 8}\n";
    return path.string();
  };
  const auto caches = [&] {
    return std::distance(fs::directory_iterator(folder_ / "cache"), fs::directory_iterator{});
  };
  expect_trained(recipe("on_features", "last"), "on_features");
  EXPECT_EQ(caches(), 1);
  expect_trained(recipe("on_features_again", "last"), "on_features_again");
  EXPECT_EQ(caches(), 1);
  EXPECT_EQ(losses(folder_ / "on_features"), losses(folder_ / "on_features_again"));
  expect_trained(recipe("on_means", "mean"), "on_means");
  EXPECT_EQ(caches(), 2);
  // Datasets that hand rows on keep where they come from; two backbones cannot be mixed.
  const auto wrapped = recipe("on_wrapped", "last");
  const auto wrap = [&](const std::string& first, const std::string& second) {
    return " \"data={type: length_constraint, max_ratio: 100, data: {type: mixture, datasets: [{" +
           data + ", pooling: " + first + "}, {" + second + "}]}}\"";
  };
  ASSERT_EQ(run("train " + wrapped + wrap("last", data + ", pooling: last")), 0) << errors();
  const auto known = Json::parse(std::ifstream(folder_ / "on_wrapped/final/meed.json"));
  EXPECT_EQ(known["model"], (folder_ / "tiny").string());
  EXPECT_NE(run("train " + recipe("on_two", "last") + wrap("last", data + ", pooling: mean")), 0);
  EXPECT_NE(errors().find("(pooling last, max_length 1024) are mixed with those of"),
            std::string::npos)
      << errors();
  EXPECT_NE(run("train " + recipe("on_other", "last") + " \"data={type: mixture, datasets: [{" +
                data + "}, {type: noisy_preferences, num_features: 32, num_rows: 8}]}\""),
            0);
  EXPECT_NE(errors().find("a source that is not known"), std::string::npos) << errors();
  EXPECT_NE(
      run("train " + recipe("on_eval", "last") + " \"eval_data={" + data + ", pooling: mean}\""),
      0);
  EXPECT_NE(errors().find("eval_data: its features come from"), std::string::npos) << errors();
  const auto scores = folder_ / "scores.jsonl";
  ASSERT_EQ(run("score --model " + (folder_ / "on_features/final").string() + " --input " +
                rows.string() + " --output " + scores.string()),
            0)
      << errors();
  std::ifstream file(scores);
  std::string line;
  ASSERT_TRUE(std::getline(file, line));
  EXPECT_TRUE(Json::parse(line)["chosen_reward"].is_number());
}

TEST_F(RewardHeads, SayWhatIsWrong) {
  const auto fails = [&](const std::string& path, const std::string& message) {
    EXPECT_NE(run("train " + path), 0) << message;
    EXPECT_NE(errors().find(message), std::string::npos) << errors();
  };
  fails(heads("no_vectors", "", "type: arithmetic, num_rows: 8"),
        "row 1: \"chosen_features\" is missing");
  fails(heads("no_head", "loss_type: mixture"),
        "algorithm.loss_type: mixture needs head: {type: mixture}");
  fails(heads("no_hidden", "contrastive: {coef: 1}"), "needs a head with a hidden layer");
  fails(heads("frozen", "freeze: [score]"), "algorithm.freeze: nothing is left to train");
  fails(heads("no_prefix", "freeze: [gate]"), "no parameter begins with \"gate\"");
  fails(heads("no_voters", "strength: {ensemble: " + (folder_ / "none").string() + "}"),
        "has no meed.json");
  fails(heads("voters_and_tastes",
              "head: {type: mixture}, strength: {ensemble: none, use: [flip, soft]}"),
        "algorithm.strength.use: soft goes with loss_type bradley_terry, not with mixture");
  fails(heads("aspects_of_another_head",
              "head: {type: aspects, aspects: {a: \"x, y\"}}, aspect_columns: [a, b]",
              "type: aspect_preferences, num_rows: 8"),
        "algorithm.aspect_columns: names 2 columns, the head has 1 aspects");
  fails(
      heads("criteria_without_labels", "head: {type: aspects, aspects: {a: x}}, label_columns: [x]",
            "type: aspect_preferences, num_rows: 8"),
      "column \"chosen_x\" or \"rejected_x\" has no label in any row");
  fails(heads("ordered_bootstrap", "ensemble: {num_members: 2, vary: order, bootstrap: true}"),
        "ensemble.bootstrap: makes members differ by more than the order");
  fails(write("sft", "type: sft", "type: arithmetic"), "model.path: is required");
  const auto rows = folder_ / "bad.jsonl";
  const auto jsonl = "type: jsonl, path: " + rows.string();
  const auto bad = [&](const std::string& name, const std::string& lines,
                       const std::string& algorithm, const std::string& message) {
    std::ofstream(rows) << lines;
    const auto path = folder_ / (name + ".yaml");
    std::ofstream(path) << "run: {output_dir: " << (folder_ / name).string() << ", max_steps: 1}\n"
                        << "algorithm: {type: reward_head" << algorithm << "}\ndata: {" << jsonl
                        << "}\n";
    fails(path.string(), message);
  };
  bad("size",
      "{\"chosen_features\": [1, 2], \"rejected_features\": [1, 2]}\n"
      "{\"chosen_features\": [1], \"rejected_features\": [1, 2]}\n",
      "", "numbers, row");
  bad("infinite", "{\"chosen_features\": [1, 1e39], \"rejected_features\": [1, 2]}\n", "",
      "row 1: \"chosen_features\"");
  bad("one_side", "{\"chosen_features\": [1, 2]}\n", "", "row 1: \"rejected_features\" is missing");
  bad("no_label", "{\"features\": [1, 2], \"a\": null}\n{\"features\": [1, 2], \"a\": null}\n",
      ", loss_type: regression, label_columns: [a]", "column \"a\" has no label in any row");
  bad("masked", "{\"features\": [1, 2], \"a\": -100}\n",
      ", loss_type: regression, label_columns: [a]", "column \"a\" has no label in any row");
  bad("lost", "{\"chosen_features\": [1, 2], \"rejected_features\": [2, 2], \"margin\": -1}\n",
      ", loss_type: margin", "row 1: \"margin\" is -1.000000, and loss_type margin reads it");
  bad("no_number", "{\"features\": [1, 2], \"a\": \"high\"}\n",
      ", loss_type: regression, label_columns: [a]",
      "row 1: column \"a\" holds \"high\", not a number");
}

}  // namespace
}  // namespace meed
