#include "algorithms/evaluation.h"
#include "tests/algorithms/program.h"

namespace meed {
namespace {

using Training = ProgramTest;

const char* kGrpo =
    "rewards: [{type: format, pattern: \"[a-m]\", match: search}]\n"
    "rollout: {num_generations: 4, max_completion_length: 6}\n";

TEST_F(Training, SftLearnsAndLeavesEverythingBehind) {
  ASSERT_EQ(run("train " + recipe("sft") +
                " run.max_steps=12 run.output_dir=" + (folder_ / "a").string()),
            0)
      << errors();
  const auto values = losses(folder_ / "a");
  ASSERT_EQ(values.size(), 12u);
  EXPECT_LT(values.back(), values.front());
  for (const char* name :
       {"metrics.jsonl", "report.html", "config.yaml", "environment.json", "final/config.json",
        "final/model.safetensors", "final/tokenizer.json", "checkpoints/step-12/state.json"})
    EXPECT_TRUE(fs::exists(folder_ / "a" / name)) << name;
  EXPECT_EQ(run("train " + recipe("sft") + " run.output_dir=" + (folder_ / "a").string()),
            2);  // holds a run already
}

TEST_F(Training, AResumedRunGivesTheVerySameLosses) {
  for (const std::string algorithm : {"sft", "grpo"}) {
    const auto path = recipe(algorithm, algorithm == "grpo" ? kGrpo : "");
    const auto straight = folder_ / (algorithm + "-straight"),
               resumed = folder_ / (algorithm + "-resumed");
    ASSERT_EQ(run("train " + path +
                  " optim.lr_scheduler_type=constant run.output_dir=" + straight.string()),
              0)
        << errors();
    ASSERT_EQ(
        run("train " + path +
            " optim.lr_scheduler_type=constant run.max_steps=2 run.output_dir=" + resumed.string()),
        0)
        << errors();
    ASSERT_EQ(run("train " + path +
                  " optim.lr_scheduler_type=constant --resume run.output_dir=" + resumed.string()),
              0)
        << errors();
    EXPECT_EQ(losses(straight), losses(resumed)) << algorithm;
  }
}

TEST_F(Training, TwoProcessesGiveTheLossesOfOne) {
  for (const std::string algorithm : {"sft", "grpo"})
    expect_equal_in_two_processes(recipe(algorithm, algorithm == "grpo" ? kGrpo : ""), algorithm,
                                  "optim.per_device_train_batch_size=4");
}

TEST_F(Training, ATypoIsNamedAndNothingIsWritten) {
  const auto path = folder_ / "typo.yaml";
  std::ofstream(path) << "run: {output_dir: " << (folder_ / "never").string()
                      << ", max_step: 4}\nmodel: {path: x}\nalgorithm: {type: sfd}\ndata: {type: "
                         "arithmetic, num_rows: many}\n";
  EXPECT_EQ(run("train " + path.string()), 2);
  const auto text = errors();
  EXPECT_NE(text.find("run.max_step: unknown key; did you mean \"max_steps\"?"), std::string::npos)
      << text;
  EXPECT_NE(text.find("unknown algorithm \"sfd\"; did you mean \"sft\"?"), std::string::npos)
      << text;
  EXPECT_NE(text.find("data.num_rows: expected an integer, got \"many\""), std::string::npos)
      << text;
  EXPECT_FALSE(fs::exists(folder_ / "never"));
}

TEST_F(Training, AnEvaluationComparesPoliciesRowByRow) {
  ASSERT_EQ(run("train " + recipe("sft") +
                " run.max_steps=12 run.output_dir=" + (folder_ / "other").string()),
            0)
      << errors();
  const auto tiny = (folder_ / "tiny").string();
  const auto eval = folder_ / "policies.yaml";
  std::ofstream(eval) << "output_dir: " << (folder_ / "compared").string() << "\nmodels: [" << tiny
                      << ", " << tiny << ", " << (folder_ / "other/final").string()
                      << "]\nevaluation: {type: generation}\n"
                      << "data: {type: arithmetic, num_rows: 24}\n"
                      << "rollout: {max_completion_length: 6, temperature_eval: 1.0}\n"
                      << "rewards: [{type: format, pattern: \"[vk]\", match: search}]\n";
  ASSERT_EQ(run("eval " + eval.string()), 0) << errors();
  std::map<std::string, std::vector<Json>> by_metric;
  for (const auto& each : Json::parse(std::ifstream(folder_ / "compared/results.json")))
    by_metric[each["metric"].get<std::string>()].push_back(each);
  const auto& rewards = by_metric["reward"];
  const auto& differences = by_metric["reward less that of " + tiny];
  ASSERT_EQ(rewards.size(), 3u);
  ASSERT_EQ(differences.size(), 2u);
  const auto number = [](const Json& row, const char* key) { return row[key].get<double>(); };
  EXPECT_EQ(number(differences[0], "low"), 0.0);  // the same model, the same completions
  EXPECT_EQ(number(differences[0], "high"), 0.0);
  EXPECT_NE(number(differences[1], "value"), 0.0);
  EXPECT_NEAR(number(differences[1], "value"),
              number(rewards[2], "value") - number(rewards[0], "value"), 1e-12);
  EXPECT_LT(number(differences[1], "low"), number(differences[1], "value"));
}

TEST_F(Training, EveryRecipeReadsWithoutAMistake) {
  for (const auto& entry :
       fs::recursive_directory_iterator(fs::path(MEED_SOURCE_DIR) / "configs")) {
    if (entry.path().extension() != ".yaml") continue;
    if (entry.path().parent_path().filename() == "eval") {
      EXPECT_NO_THROW(EvaluationRecipe::load(entry.path(), {})) << entry.path();
      continue;
    }
    EXPECT_EQ(run("train --dry-run " + entry.path().string()), 0) << errors();
  }
}

}  // namespace
}  // namespace meed
