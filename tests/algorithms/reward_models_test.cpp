#include "libreward/models/reward_model.h"

#include <ATen/ATen.h>

#include <cmath>

#include "libpolicy/checkpoint/safetensors.h"
#include "libpolicy/core/error.h"
#include "libreward/models/text_scorer.h"
#include "tests/algorithms/program.h"

// Reward models of every kind through the real program: they train, resume, give the same on two
// processes, and their folders are served.

namespace meed {
namespace {

const fs::path kMiniLm = fs::path(MEED_SOURCE_DIR) / ".deps/models/all-minilm-l6-v2";

class RewardModels : public ProgramTest {
 protected:
  static std::string recipe_of(const std::string& name, const std::string& algorithm,
                               const std::string& rows, const std::string& more = "",
                               const std::string& model = "tiny") {
    const auto data = folder_ / (name + ".jsonl"), path = folder_ / (name + ".yaml");
    std::ofstream(data) << rows;
    std::ofstream(path) << "run: {output_dir: " << (folder_ / name).string()
                        << ", seed: 3, max_steps: 4, save_steps: 2}\n"
                        << "model: {path: " << (folder_ / model).string() << "}\n"
                        << "algorithm: {" << algorithm << "}\n"
                        << "optim: {learning_rate: 1.0e-3, per_device_train_batch_size: 8, "
                           "lr_scheduler_type: constant}\n"
                        << "data: {type: jsonl, path: " << data.string() << "}\n"
                        << "eval_data: {type: jsonl, path: " << data.string() << "}\n"
                        << more;
    return path.string();
  }
  static std::string pairs() {
    std::string rows;
    for (int i = 0; i < 16; ++i) {
      const auto number = std::to_string(i);
      rows += R"({"prompt": "Say )" + number + R"(:", "chosen": " )" + number +
              R"( it is", "rejected": " no, never", "kind": ")" + (i % 2 ? "odd" : "even") +
              R"(", "chosen_good": 1, "rejected_good": 0, "rejected_clear": 0, "chosen_tone": 2, )"
              R"("tone": 1, "mood": -1, "chosen_critique": " fine", )"
              R"("rejected_critique": " poor"})"
              "\n";
    }
    return rows;
  }
  static std::string labelled() {
    std::string rows;
    for (int i = 0; i < 16; ++i)
      rows += R"({"prompt": "Two and )" + std::to_string(i) + R"(?", "completion": " it is )" +
              std::to_string(i + 2 + i % 2) + R"(", "label": )" + (i % 2 ? "false" : "true") +
              R"(, "answer": ")" + std::to_string(i + 2) +
              R"("})"
              "\n";
    return rows;
  }
  static std::string stepwise() {
    std::string rows;
    for (int i = 0; i < 16; ++i)
      rows += R"({"prompt": "Add up.", "completions": ["First )" + std::to_string(i) +
              R"(", "then more", "done"], "labels": )" +
              (i % 2 ? "[1, 0, -100]" : "[true, 0.75, 1]") + "}\n";
    return rows;
  }
  static Json metrics(const fs::path& folder) {
    std::ifstream file(folder / "metrics.jsonl");
    std::string line, last;
    while (std::getline(file, line)) last = line;
    return Json::parse(last);
  }
  static Json scored(const fs::path& model, const std::string& row, const std::string& more = "") {
    std::ofstream(folder_ / "in.jsonl") << row << "\n";
    EXPECT_EQ(
        run("score --model " + model.string() + " --input " + (folder_ / "in.jsonl").string() +
            " --output " + (folder_ / "out.jsonl").string() + more),
        0)
        << errors();
    std::ifstream file(folder_ / "out.jsonl");
    std::string line;
    std::getline(file, line);
    return line.empty() ? Json() : Json::parse(line);
  }
  static void expect_same_after_resuming(const std::string& path, const std::string& name) {
    const auto straight = folder_ / (name + "-straight"), resumed = folder_ / (name + "-resumed");
    ASSERT_EQ(run("train " + path + " run.output_dir=" + straight.string()), 0) << errors();
    ASSERT_EQ(run("train " + path + " run.max_steps=2 run.output_dir=" + resumed.string()), 0)
        << errors();
    ASSERT_EQ(run("train --resume " + path + " run.output_dir=" + resumed.string()), 0) << errors();
    EXPECT_EQ(losses(straight), losses(resumed)) << name;
  }
  static void expect_fails(const std::string& path, const std::string& message) {
    EXPECT_NE(run("train " + path), 0);
    EXPECT_NE(errors().find(message), std::string::npos) << errors();
  }
  static inline const std::string kHalf = "optim.per_device_train_batch_size=4";
};

TEST_F(RewardModels, AnEvaluationIsInspected) {
  const auto path =
      recipe_of("inspected",
                "type: reward_modelling, group_by: kind, head: {type: mixture, heads: 2}", pairs());
  ASSERT_EQ(run("train " + path), 0) << errors();
  const auto last = metrics(folder_ / "inspected");
  for (const char* key :
       {"eval_accuracy", "eval_accuracy/odd", "eval_accuracy/even", "eval_calibration/ece",
        "eval_length_spearman", "eval_chosen_reward/p50", "eval_rejected_reward/p90",
        "eval_gate_use/head_0", "eval_gate_use/head_1"})
    EXPECT_TRUE(last.contains(key) && last[key].is_number()) << key;
  EXPECT_NEAR(
      last["eval_accuracy"].get<double>(),
      (last["eval_accuracy/odd"].get<double>() + last["eval_accuracy/even"].get<double>()) / 2,
      1e-9);
  EXPECT_NEAR(
      last["eval_gate_use/head_0"].get<double>() + last["eval_gate_use/head_1"].get<double>(), 1.0,
      1e-5);
  std::ifstream file(folder_ / "inspected" / "inspection.jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(file, line));
  const auto inspection = Json::parse(line);
  int counted = 0;
  for (const int bin : inspection["chosen"]) counted += bin;
  EXPECT_EQ(counted, 16);
  EXPECT_EQ(inspection["pairs"], 16);
  EXPECT_TRUE(inspection.contains("gates"));
}

TEST_F(RewardModels, AnAdapterTrainsWithTheHead) {
  const auto path = recipe_of("adapter", "type: reward_modelling", pairs(), "lora: {r: 4}\n");
  expect_same_after_resuming(path, "adapter");
  expect_equal_in_two_processes(path, "adapter", kHalf);
  const auto adapter = folder_ / "adapter-straight/final/adapter";
  const auto config = Json::parse(std::ifstream(adapter / "adapter_config.json"));
  EXPECT_EQ(config["task_type"], "SEQ_CLS");
  EXPECT_EQ(config["modules_to_save"], Json::array({"score"}));
  const SafetensorsFile file(adapter / "adapter_model.safetensors");
  const auto score = file.load("base_model.model.score.weight");
  EXPECT_EQ(score.sizes(), (at::IntArrayRef{1, 32}));
  // final/ is merged: it scores by itself, and otherwise than a model of the first step would.
  const auto row = R"({"prompt": "Say 3:", "chosen": " 3 it is", "rejected": " no, never"})";
  EXPECT_TRUE(scored(folder_ / "adapter-straight/final", row)["chosen_reward"].is_number());
  EXPECT_TRUE(at::equal(
      score,
      SafetensorsFile(folder_ / "adapter-straight/final/model.safetensors").load("score.weight")));
}

TEST_F(RewardModels, StepsAreScoredOneByOne) {
  const auto path = recipe_of("steps", "type: reward_modelling, pooling: steps", stepwise());
  expect_same_after_resuming(path, "steps");
  expect_equal_in_two_processes(path, "steps", kHalf);
  const auto model = folder_ / "steps-straight/final";
  const auto row =
      scored(model, R"({"prompt": "Add up.", "completions": ["First 1", "then more"]})");
  ASSERT_EQ(row["step_rewards"].size(), 2u);
  const double product =
      row["step_rewards"][0].get<double>() * row["step_rewards"][1].get<double>();
  EXPECT_NEAR(row["reward"].get<double>(), product, 1e-6);
  // A text is split into the same steps.
  const auto text = scored(model, R"({"prompt": "Add up.", "completion": "First 1\nthen more\n"})");
  EXPECT_NEAR(text["reward"].get<double>(), product, 1e-5);
  const auto last = metrics(folder_ / "steps-straight");
  for (const char* key :
       {"eval_accuracy", "eval_first_error/f1", "eval_first_error/accuracy_erroneous",
        "eval_first_error/accuracy_correct", "eval_first_error/best_f1", "eval_last_step_minimum"})
    EXPECT_TRUE(last.contains(key) && last[key].is_number()) << key;
  // The same figures from the saved model.
  const auto eval = folder_ / "first_error.yaml";
  const auto data = "{type: jsonl, path: " + (folder_ / "steps.jsonl").string() + "}";
  std::ofstream(eval) << "output_dir: " << (folder_ / "first_error").string() << "\nmodels: ["
                      << model.string() << "]\nevaluation: {type: first_error}\ndata: " << data
                      << "\n";
  const auto evaluated = [&](const std::string& more) {
    EXPECT_EQ(run("eval " + eval.string() + more), 0) << errors();
    std::map<std::string, double> values;
    for (const auto& each : Json::parse(std::ifstream(folder_ / "first_error/results.json")))
      values[each["metric"]] = each["value"].is_number() ? each["value"].get<double>() : -1.0;
    return values;
  };
  auto values = evaluated("");
  EXPECT_NEAR(values.at("F1 of first errors"), last["eval_first_error/f1"].get<double>(), 1e-9);
  EXPECT_NEAR(values.at("accuracy of steps"), last["eval_accuracy"].get<double>(), 1e-6);
  EXPECT_NEAR(values.at("first error named"),
              last["eval_first_error/accuracy_erroneous"].get<double>(), 1e-9);
  values = evaluated(" \"evaluation.tune_on=" + data + "\"");
  EXPECT_NEAR(values.at("F1 of first errors"), last["eval_first_error/best_f1"].get<double>(),
              1e-9);
  EXPECT_EQ(run("eval " + eval.string() + " data={type:\\ needle}"), 1);
  EXPECT_NE(errors().find("row 1: first_error needs \"completions\""), std::string::npos)
      << errors();
  expect_fails(recipe_of("no_labels", "type: reward_modelling, pooling: steps",
                         R"({"prompt": "p", "completions": ["a"]})"),
               "row 1: steps need \"completions\" (the steps) and \"labels\"");
}

TEST_F(RewardModels, AVerifierReadsTheReference) {
  const auto path =
      recipe_of("verifier", "type: reward_modelling, loss_type: verifier, reference_column: answer",
                labelled());
  expect_same_after_resuming(path, "verifier");
  expect_equal_in_two_processes(path, "verifier", kHalf);
  const auto model = folder_ / "verifier-straight/final";
  const auto one = scored(model, R"({"prompt": "Two?", "completion": " it is 4", "answer": "4"})");
  const auto other =
      scored(model, R"({"prompt": "Two?", "completion": " it is 4", "answer": "9"})");
  EXPECT_GT(one["reward"].get<double>(), 0.0);
  EXPECT_LT(one["reward"].get<double>(), 1.0);
  EXPECT_NE(one["reward"], other["reward"]);
  EXPECT_EQ(run("score --model " + model.string() + " --input " +
                (folder_ / "inspected.jsonl").string() + " --output -"),
            1);
}

TEST_F(RewardModels, AspectsLearnFromCriteriaAspectsAndPairs) {
  const auto path = recipe_of(
      "aspects",
      "type: reward_modelling, head: {type: aspects, aspects: {quality: \"good, clear\", style: "
      "tone}, gate_hidden: 8, gate_layers: 1}, label_columns: [good, clear, tone], "
      "aspect_columns: [tone, mood]",
      pairs());
  expect_same_after_resuming(path, "aspects");
  expect_equal_in_two_processes(path, "aspects", kHalf);
  const auto row = scored(folder_ / "aspects-straight/final",
                          R"({"prompt": "Say 3:", "completion": " 3 it is"})");
  EXPECT_TRUE(row["parts"].contains("quality/good"));
  EXPECT_NEAR(row["parts"]["gate/quality"].get<double>() + row["parts"]["gate/style"].get<double>(),
              1.0, 1e-5);
}

TEST_F(RewardModels, AnEncoderIsABackbone) {
  if (!fs::exists(kMiniLm)) GTEST_SKIP() << kMiniLm << " is not there; run scripts/setup.sh";
  for (const char* pooling : {"last", "mean"}) {
    const auto name = std::string("encoder_") + pooling;
    auto path =
        recipe_of(name, std::string("type: reward_modelling, pooling: ") + pooling, pairs());
    const std::string model = " model.path=" + kMiniLm.string() + " optim.learning_rate=1e-4";
    expect_equal_in_two_processes(path + model, name, kHalf);
    const auto values = losses(folder_ / (name + "-one"));
    EXPECT_LT(values.back(), values.front()) << name;
    const auto final_model = folder_ / (name + "-one") / "final";
    EXPECT_EQ(fs::exists(final_model / "meed.json"), std::string(pooling) == "mean");
    const auto row = scored(
        final_model, R"({"prompt": "Say 3:", "chosen": " 3 it is", "rejected": " no, never"})");
    EXPECT_GT(row["chosen_reward"].get<double>(), row["rejected_reward"].get<double>()) << name;
  }
}

TEST_F(RewardModels, AnEnsembleIsTrainedAndServedAsOne) {
  const auto path =
      recipe_of("ensemble",
                "type: reward_ensemble, num_members: 3, member: {type: reward_modelling}", pairs());
  ASSERT_EQ(run("train " + path), 0) << errors();
  const auto last = metrics(folder_ / "ensemble");
  EXPECT_EQ(last["step"], 3);
  EXPECT_GT(last["eval_disagreement"].get<double>(), 0.0);
  const auto model = folder_ / "ensemble/final";
  const std::string row = R"({"prompt": "Say 3:", "completion": " 3 it is"})";
  const auto whole = scored(model, row), least = scored(model, row, " --aggregate min");
  double sum = 0.0, lowest = 1e9;
  for (const char* member : {"0", "1", "2"}) {
    const double reward = scored(model / member, row)["reward"].get<double>();
    sum += reward;
    lowest = std::min(lowest, reward);
  }
  EXPECT_NEAR(whole["reward"].get<double>(), sum / 3.0, 1e-6);
  EXPECT_NEAR(least["reward"].get<double>(), lowest, 1e-6);
  EXPECT_GT(whole["parts"]["disagreement"].get<double>(), 0.0);
  // The table of an evaluation: every aggregate, and the difference from the first.
  const auto eval = folder_ / "eval.yaml";
  std::ofstream(eval) << "output_dir: " << (folder_ / "evaluated").string() << "\nmodels: ["
                      << (model / "0").string() << ", " << model.string()
                      << "]\nevaluation: {type: preference_accuracy, aggregates: [mean, min]}\n"
                      << "data: {type: jsonl, path: " << (folder_ / "ensemble.jsonl").string()
                      << "}\n";
  ASSERT_EQ(run("eval " + eval.string()), 0) << errors();
  const auto results = Json::parse(std::ifstream(folder_ / "evaluated/results.json"));
  int accuracies = 0, differences = 0;
  for (const auto& each : results) {
    accuracies += each["metric"] == "accuracy";
    differences += each["metric"].get<std::string>().starts_with("accuracy less that of");
  }
  EXPECT_EQ(accuracies, 3);
  EXPECT_EQ(differences, 2);
  // As a reward: members are centred over a prompt's completions first.
  const auto rewards = folder_ / "rewards.yaml";
  std::ofstream(rewards) << "rewards: [{type: ensemble, folder: " << model.string()
                         << ", center_per_prompt: true, aggregate: median}]\n";
  std::ofstream(folder_ / "in.jsonl")
      << R"({"prompt": "Say 3:", "completions": [" 3 it is", " no"]})"
      << "\n";
  ASSERT_EQ(run("reward " + rewards.string() + " --input " + (folder_ / "in.jsonl").string() +
                " --output " + (folder_ / "out.jsonl").string()),
            0)
      << errors();
  const auto served = Json::parse(std::ifstream(folder_ / "out.jsonl"));
  EXPECT_NEAR(served["rewards"][0].get<double>() + served["rewards"][1].get<double>(), 0.0, 1e-6);
  EXPECT_NE(served["rewards"][0].get<double>(), 0.0);
  // A member that cannot be read is named.
  fs::remove(model / "1/model.safetensors");
  EXPECT_EQ(run("score --model " + model.string() + " --input " + (folder_ / "in.jsonl").string()),
            1);
  EXPECT_NE(errors().find("member \"1\" cannot be read"), std::string::npos) << errors();
  EXPECT_NE(run("reward " + rewards.string() + " --input " + (folder_ / "in.jsonl").string()), 0);
  EXPECT_NE(errors().find("member \"1\" cannot be read"), std::string::npos) << errors();
}

TEST_F(RewardModels, MembersOfAnEnsembleDifferByWhatTheRecipeSays) {
  const auto train = [&](const std::string& vary) {
    const auto name = "ensemble_" + vary;
    const auto path = recipe_of(name,
                                "type: reward_ensemble, num_members: 2, vary: " + vary +
                                    ", member: {type: reward_modelling, freeze_backbone: true}",
                                pairs());
    EXPECT_EQ(run("train " + path + " run.max_steps=2"), 0) << errors();
    return folder_ / name;
  };
  const auto first_weights = [&](const fs::path& folder, const char* member) {
    // The first loss of a member is that of its first weights on its first rows.
    return losses(folder / "members" / member).at(0);
  };
  const auto init = train("init"), order = train("order"), both = train("finetune");
  const auto seeds = [](const fs::path& folder, const char* member) {
    std::ifstream file(folder / "members" / member / "config.yaml");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const auto number = [&](const std::string& key) {
      const auto at = text.find(key);
      return at == std::string::npos ? -1 : std::atoi(text.c_str() + at + key.size());
    };
    return std::pair{number("\n  seed: "), number(" head_seed: ")};
  };
  EXPECT_EQ(seeds(init, "1"), (std::pair{3, 4}));
  EXPECT_EQ(seeds(order, "1"), (std::pair{4, 3}));
  EXPECT_EQ(seeds(both, "1"), (std::pair{4, 0}));  // null
  EXPECT_NE(first_weights(init, "0"), first_weights(init, "1"));
  EXPECT_NE(first_weights(order, "0"), first_weights(order, "1"));
  EXPECT_EQ(first_weights(order, "0"), first_weights(both, "0"));
  EXPECT_NE(first_weights(order, "1"), first_weights(both, "1"));
}

TEST_F(RewardModels, ACritiqueIsWrittenAndScored) {
  const auto path = recipe_of("critique", "type: critique_reward, max_critique_length: 4", pairs());
  expect_same_after_resuming(path, "critique");
  expect_equal_in_two_processes(path, "critique", kHalf);
  const auto last = metrics(folder_ / "critique-straight");
  EXPECT_TRUE(last["eval_generated_accuracy"].is_number());
  const auto row = scored(folder_ / "critique-straight/final",
                          R"({"prompt": "Say 3:", "completion": " 3 it is"})");
  EXPECT_TRUE(row["reward"].is_number());
  EXPECT_LE(row["parts"]["critique_length"].get<double>(), 4.0);
  expect_fails(recipe_of("no_critique", "type: critique_reward",
                         R"({"prompt": "p", "chosen": "a", "rejected": "b"})"),
               "row 1: column \"chosen_critique\" is missing or empty");
}

TEST_F(RewardModels, LogoTrainsAJudge) {
  const auto path = recipe_of("logo", "type: logo, group_by: length", pairs());
  const std::string data =
      " \"data={type: pointwise_judgements, data: {type: needle, num_rows: 32, "
      "lengths: [8, 16]}}\" \"eval_data={type: pointwise_judgements, data: "
      "{type: needle, num_rows: 8, split: eval, lengths: [8, 16]}}\"";
  expect_equal_in_two_processes(path + data, "logo", kHalf);
  const auto last = metrics(folder_ / "logo-one");
  EXPECT_TRUE(last["eval_accuracy/8"].is_number());
  EXPECT_TRUE(last["eval_accuracy/16"].is_number());
}

TEST_F(RewardModels, FusionIsEvaluatedBesideTheModel) {
  const auto path =
      recipe_of("fused", "type: reward_modelling, fusion: {least_similarity: 0.5}", pairs());
  const auto rows = (folder_ / "fused.jsonl").string();
  ASSERT_EQ(run("train " + path + " \"algorithm.fusion.data={type: jsonl, path: " + rows + "}\""),
            0)
      << errors();
  const auto last = metrics(folder_ / "fused");
  EXPECT_TRUE(last["eval_fused_accuracy"].is_number());
  EXPECT_GT(last["eval_fused_neighbours"].get<double>(), 0.9);  // itself is among them
}

TEST_F(RewardModels, BadRowsAreNamed) {
  expect_fails(recipe_of("empty_side", "type: reward_modelling",
                         R"({"prompt": "p", "chosen": "", "rejected": "b"})"),
               "\"chosen\" is missing or empty");
  expect_fails(recipe_of("equal_sides", "type: reward_modelling",
                         R"({"prompt": "p", "chosen": "same", "rejected": "same"})"),
               "row 1: \"chosen\" and \"rejected\" are the same");
  expect_fails(recipe_of("no_label_anywhere",
                         "type: reward_modelling, head: {type: attributes, attributes: [a, b], "
                         "weights: [1, 1]}, label_columns: [a, b]",
                         R"({"prompt": "p", "completion": "x", "a": 1, "b": null})"),
               "column \"b\" has no label in any row");
  const std::string aspects =
      "type: reward_modelling, head: {type: aspects, gate_hidden: 4, aspects: "
      "{q: x, s: y}}, ";
  const std::string half_labelled =
      R"({"prompt": "p", "chosen": "a", "rejected": "b", "chosen_x": 1, "q": 1})";
  expect_fails(recipe_of("no_criterion", aspects + "label_columns: [x, y]", half_labelled),
               "column \"chosen_y\" or \"rejected_y\" has no label in any row");
  expect_fails(recipe_of("no_aspect", aspects + "aspect_columns: [q, s]", half_labelled),
               "column \"s\" has no label in any row");
  expect_fails(recipe_of("negative_strength", "type: reward_modelling, loss_type: scaled",
                         R"({"prompt": "p", "chosen": "a", "rejected": "b", "margin": -2})"),
               "row 1: \"margin\" is -2.000000, and loss_type scaled reads it as the preference's");
  expect_fails(recipe_of("no_strength", "type: reward_modelling, loss_type: scaled",
                         R"({"prompt": "p", "chosen": "a", "rejected": "b"})"),
               "row 1: \"margin\" is missing, and loss_type scaled weighs a row by it");
  expect_fails(
      recipe_of("not_a_number", "type: reward_modelling, loss_type: regression, label_columns: [a]",
                R"({"prompt": "p", "completion": "x", "a": "many"})"),
      "row 1: column \"a\" holds \"many\", not a number");
}

}  // namespace
}  // namespace meed
