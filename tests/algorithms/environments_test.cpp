#include "tests/algorithms/program.h"

// Rollouts of several turns through the real program: a short warm start teaches the form of a
// search, then GRPO talks to the graph.

namespace meed {
namespace {

class Environments : public ProgramTest {
 protected:
  /// A model that has seen 60 batches of searches, made once.
  static std::string base() {
    const auto path = folder_ / "base.yaml";
    std::ofstream(path) << "run: {output_dir: " << (folder_ / "base").string()
                        << ", seed: 3, max_steps: 60}\n"
                        << "model: {path: "
                        << (fs::path(MEED_SOURCE_DIR) / "configs/paper/words").string()
                        << ", from_scratch: {hidden_size: 32, num_hidden_layers: 1}}\n"
                        << "algorithm: {type: sft}\n"
                        << "data: {type: knowledge_graph, num_rows: 400}\n"
                        << "optim: {learning_rate: 1.0e-2, per_device_train_batch_size: 16}\n";
    if (!fs::exists(folder_ / "base")) {
      EXPECT_EQ(run("train " + path.string()), 0) << errors();
    }
    return (folder_ / "base/final").string();
  }
  static std::string write(const std::string& name, const std::string& model) {
    const auto path = folder_ / (name + ".yaml");
    std::ofstream(path)
        << "run: {output_dir: " << (folder_ / name).string()
        << ", seed: 3, max_steps: 4, save_steps: 2, eval_on_start: true}\n"
        << "model: {path: " << model << "}\n"
        << "algorithm: {type: grpo, num_iterations: 2, importance_sampling_correction: "
           "token_truncate}\n"
        << "data: {type: knowledge_graph, num_rows: 64}\n"
        << "eval_data: {type: knowledge_graph, num_rows: 8, split: eval}\n"
        << "rewards: [{type: search_principles, transforms: [{type: renorm}, {type: sum_steps}]}]\n"
        << "rollout: {num_generations: 4, max_completion_length: 48, environment: {type: "
           "graph_search}, max_tool_calling_iterations: 3, max_turn_length: 12}\n"
        << "optim: {learning_rate: 1.0e-3, per_device_train_batch_size: 16, lr_scheduler_type: "
           "constant}\n";
    return path.string();
  }
};

TEST_F(Environments, ManyTurnsGiveTheSameOnTwoProcessesAndCallsAreCounted) {
  expect_equal_in_two_processes(write("search", base()), "search",
                                "optim.per_device_train_batch_size=8");
  std::ifstream file(folder_ / "search-one/metrics.jsonl");
  double calls = 0.0;
  for (std::string line; std::getline(file, line);) {
    const auto json = Json::parse(line);
    if (!json.contains("tools/call_frequency")) continue;
    calls += json["tools/call_frequency"].get<double>();
    EXPECT_LE(json["tools/call_frequency"].get<double>(), 3.0);
    // The engine's numbers are those of the training forward, on sampled tokens.
    EXPECT_LT(json["sampling/sampling_logp_difference/max"].get<double>(), 1e-3);
  }
  EXPECT_GT(calls, 0.5);
}

TEST_F(Environments, AnEvaluationLogsAsManyCompletionsAsAsked) {
  ASSERT_EQ(run("train " + write("logged", base()) +
                " run.max_steps=1 run.num_eval_completions_to_log=70 eval_data.num_rows=90"),
            0)
      << errors();
  std::ifstream file(folder_ / "logged/completions.jsonl");
  int64_t before = 0;
  for (std::string line; std::getline(file, line);)
    before += Json::parse(line)["phase"] == "before";
  EXPECT_EQ(before, 70);
}

TEST_F(Environments, AWrongOneIsNamed) {
  EXPECT_EQ(run("train " + write("wrong", "absent") + " rollout.environment.type=graph_serch"), 2);
  EXPECT_NE(errors().find("graph_search"), std::string::npos) << errors();
}

}  // namespace
}  // namespace meed
