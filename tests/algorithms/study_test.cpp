#include "algorithms/study.h"

#include "libpolicy/core/error.h"
#include "tests/algorithms/program.h"

namespace meed {
namespace {

const std::string kBase =
    "run: {output_dir: /nowhere, seed: 5, max_steps: 2}\n"
    "model: {path: m}\n"
    "data: {type: arithmetic, num_rows: 16, seed: \"{seed}\"}\n";

std::string message(const std::string& yaml) {
  try {
    Study::from_node(ConfigNode::parse_string(yaml, "s.yaml"));
  } catch (const ConfigError& e) {
    return e.what();
  }
  return "";
}

TEST(Study, ArmsShareTheRecipeButForTheirSettings) {
  const auto study =
      Study::from_node(ConfigNode::parse_string(
          kBase + "algorithm: {type: sft}\n"
                  "study:\n  num_seeds: 2\n  arms:\n    a: {}\n"
                  "    b: {optim.learning_rate: 0.5, model.path: \"{arm:a}/final\"}\n"));
  const auto yaml = study.to_yaml();
  EXPECT_NE(yaml.find("# arm a"), std::string::npos);
  EXPECT_NE(yaml.find("/nowhere/a/seed-5/final"), std::string::npos) << yaml;
  EXPECT_NE(yaml.find("learning_rate: 0.5"), std::string::npos);
  EXPECT_NE(yaml.find("seed: 5"), std::string::npos);
}

TEST(Study, EveryMistakeIsNamedOnce) {
  const auto arms =
      message(kBase +
              "algorithm: {type: sft}\nstudy:\n  arms:\n    one: {optim.learning_rte: 1}\n"
              "    two: {run.max_stps: 3}\n");
  EXPECT_NE(arms.find("learning_rte"), std::string::npos) << arms;
  EXPECT_NE(arms.find("max_stps"), std::string::npos) << arms;
  const auto everywhere = message(
      "run: {output_dir: /nowhere, max_step: 1}\nmodel: {path: m}\ndata: {type: arithmetic}\n"
      "algorithm: {type: sfd}\nstudy: {num_seed: 2, arms: {one: {optim.learning_rte: 1}}}\n");
  for (const auto* wrong : {"max_step", "sfd", "num_seed", "learning_rte"})
    EXPECT_NE(everywhere.find(wrong), std::string::npos) << everywhere;
  EXPECT_EQ(everywhere.find("max_step"), everywhere.rfind("max_step:")) << everywhere;
  const auto checks =
      message(kBase +
              "algorithm: {type: sft}\nstudy:\n  arms: {one: {}}\n  checks:\n"
              "    - {claim: x, value: on/loss, at_least: 1}\n    - {value: one}\n");
  EXPECT_NE(checks.find("s.yaml:8:7"), std::string::npos) << checks;
  EXPECT_NE(checks.find("there is no arm \"on\"; did you mean \"one\"?"), std::string::npos)
      << checks;
  EXPECT_NE(checks.find("or at_most must be given"), std::string::npos) << checks;
  EXPECT_NE(
      message(kBase +
              "algorithm: {type: sft}\nstudy: {arms: {a: {model.path: \"{arm:b}/x\"}, b: {}}}\n")
          .find("names no arm that stands before a"),
      std::string::npos);
  EXPECT_NE(
      message(kBase + "algorithm: {type: sft}\nstudy: {}\n").find("expected a map from names"),
      std::string::npos);
}

class StudyRun : public ProgramTest {};

TEST_F(StudyRun, RunsItsArmsAndComparesThem) {
  const auto out = folder_ / "study";
  const auto path = folder_ / "study.yaml";
  std::ofstream(path) << "run: {output_dir: " << out.string()
                      << ", seed: 3, max_steps: 3, save_steps: 0}\n"
                      << "model: {path: " << (folder_ / "tiny").string() << "}\n"
                      << "algorithm: {type: sft}\n"
                      << "data: {type: arithmetic, num_rows: 32, seed: \"{seed}\"}\n"
                      << "optim: {per_device_train_batch_size: 8}\n"
                      << R"(
study:
  num_seeds: 2
  arms:
    still: {optim.learning_rate: 0.0}
    learns: {optim.learning_rate: 1.0e-2}
    further: {optim.learning_rate: 1.0e-2, model.path: "{arm:learns}/final"}
  checks:
    - {claim: training lowers the loss, value: still/loss, minus: learns/loss, at_least: 0.01}
    - {claim: it never ends, value: learns/loss, over: still/loss, at_most: 0.001}
    - {claim: it goes on from there, value: further/loss@first, minus: learns/loss@min, at_most: 0.5}
    - {claim: the steps, value: 3, minus: still/step@max, at_least: 0, at_most: 0}
    - {claim: the first steps, value: still/step@mean:2, at_least: 1.5, at_most: 1.5}
)";
  ASSERT_EQ(run("train " + path.string()), 0) << errors();
  const auto results = Json::parse(std::ifstream(out / "results.json"));
  EXPECT_EQ(results["seeds"], Json({3, 4}));
  EXPECT_EQ(results["checks"].size(), 5u);
  EXPECT_TRUE(results["checks"][0]["reached"]) << results;
  EXPECT_FALSE(results["checks"][1]["reached"]) << results;
  EXPECT_TRUE(results["checks"][2]["reached"]) << results;
  EXPECT_TRUE(results["checks"][3]["reached"]) << results;
  EXPECT_TRUE(results["checks"][4]["reached"]) << results;
  EXPECT_NE(losses(out / "still/seed-3"), losses(out / "still/seed-4"));
  EXPECT_EQ(run("train " + path.string()), 2);
  EXPECT_NE(errors().find("--resume"), std::string::npos) << errors();
  fs::remove_all(out / "further/seed-4");
  fs::remove(out / "results.json");
  ASSERT_EQ(run("train --resume " + path.string()), 0) << errors();
  EXPECT_EQ(Json::parse(std::ifstream(out / "results.json")), results);
}

}  // namespace
}  // namespace meed
