#include "algorithms/report/run_recorder.h"

#include <unistd.h>

#include <barrier>
#include <cmath>
#include <fstream>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include <gtest/gtest.h>

#include "algorithms/report/jsonl_log.h"
#include "algorithms/report/metric_reducer.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/distributed/communicator.h"
#include "tests/algorithms/report/report_test_util.h"

namespace meed {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

/// Ranks that are threads of this process; only what the recorder uses.
class ThreadCommunicator final : public Communicator {
 public:
  struct Shared {
    explicit Shared(int size) : barrier(size), slots(static_cast<size_t>(size)) {}
    std::barrier<> barrier;
    std::vector<std::string> slots;
    int num_collectives = 0;
  };
  ThreadCommunicator(Shared& shared, int rank) : shared_(shared), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(shared_.slots.size()); }
  void all_reduce(at::Tensor&, ReduceOp) override { FAIL(); }
  void broadcast(at::Tensor&, int) override { FAIL(); }
  at::Tensor all_gather(const at::Tensor& tensor) override { return tensor; }
  std::vector<std::string> all_gather(const std::string& bytes) override {
    shared_.slots[static_cast<size_t>(rank_)] = bytes;
    shared_.barrier.arrive_and_wait();
    auto all = shared_.slots;
    if (rank_ == 0) ++shared_.num_collectives;
    shared_.barrier.arrive_and_wait();
    return all;
  }
  void barrier() override { shared_.barrier.arrive_and_wait(); }
  void abort(const std::string&) override {}
  std::unique_ptr<Communicator> split(int) override { return nullptr; }

 private:
  Shared& shared_;
  int rank_;
};

std::unique_ptr<Communicator> single() { return Communicator::create({}, at::kCPU, "single"); }

RunRecorder::Options quiet(const fs::path& folder, std::optional<int64_t> resume_step = {}) {
  RunRecorder::Options options;
  options.output_dir = folder;
  options.progress = false;
  options.resume_step = resume_step;
  return options;
}

std::vector<Json> rows(const fs::path& file) {
  std::vector<Json> rows;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) rows.push_back(Json::parse(line));
  return rows;
}

TEST(MetricReducer, ReducesByItsOwnRule) {
  MetricReducer metrics;
  for (const double value : {2.0, 5.0, -1.0}) {
    metrics.record("mean", value, Reduce::kMean, 1);
    metrics.record("sum", value, Reduce::kSum, 1);
    metrics.record("min", value, Reduce::kMin, 1);
    metrics.record("max", value, Reduce::kMax, 1);
  }
  metrics.record("weighted", 1, Reduce::kMean, 3);
  metrics.record("weighted", 5, Reduce::kMean, 1);
  metrics.record("empty", 7, Reduce::kMean, 0);
  const auto values = metrics.values();
  EXPECT_DOUBLE_EQ(values.at("mean"), 2);
  EXPECT_DOUBLE_EQ(values.at("sum"), 6);
  EXPECT_DOUBLE_EQ(values.at("min"), -1);
  EXPECT_DOUBLE_EQ(values.at("max"), 5);
  EXPECT_DOUBLE_EQ(values.at("weighted"), 2);
  EXPECT_EQ(values.count("empty"), 0u);
}

TEST(MetricReducer, NaNStaysInEveryOrder) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const auto reduce : {Reduce::kMin, Reduce::kMax, Reduce::kSum, Reduce::kMean})
    for (const bool first : {true, false}) {
      MetricReducer metrics;
      metrics.record("x", first ? nan : 1, reduce, 1);
      metrics.record("x", first ? 1 : nan, reduce, 1);
      EXPECT_TRUE(std::isnan(metrics.values().at("x")));
    }
}

TEST(MetricReducer, TwoReductionsOfOneKeyAreAMistake) {
  MetricReducer metrics;
  metrics.record("x", 1, Reduce::kMean, 1);
  EXPECT_THROW(metrics.record("x", 1, Reduce::kSum, 1), InternalError);
}

TEST(RunRecorder, WritesOneObjectAStep) {
  const TemporaryFolder folder;
  const auto comm = single();
  RunRecorder recorder(quiet(folder.path()), *comm);
  recorder.record("loss", 0.5);
  recorder.record("num_tokens", 100, Reduce::kSum);
  recorder.record("step_time", 2);
  recorder.flush(1);
  EXPECT_DOUBLE_EQ(recorder.last().at("loss"), 0.5);
  recorder.record("loss", 0.25);
  recorder.flush(2);
  const auto lines = rows(folder.path() / "metrics.jsonl");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["step"], 1);
  EXPECT_DOUBLE_EQ(lines[0]["tokens_per_s"], 50);
  EXPECT_GT(lines[0]["memory/rss_mb"], 1);
  EXPECT_DOUBLE_EQ(lines[1]["loss"], 0.25);
  EXPECT_FALSE(lines[1].contains("num_tokens"));
}

TEST(RunRecorder, NonFiniteNumbersAreNullAndCounted) {
  const TemporaryFolder folder;
  const auto comm = single();
  RunRecorder recorder(quiet(folder.path()), *comm);
  recorder.record("loss", std::nan(""));
  recorder.record("grad_norm", std::numeric_limits<double>::infinity());
  recorder.record("kl", 1);
  recorder.flush(1);
  const auto lines = rows(folder.path() / "metrics.jsonl");
  EXPECT_TRUE(lines[0]["loss"].is_null());
  EXPECT_TRUE(lines[0]["grad_norm"].is_null());
  EXPECT_EQ(lines[0]["num_non_finite"], 2);
  EXPECT_TRUE(std::isnan(recorder.last().at("loss")));
}

TEST(RunRecorder, ASecondFlushOfAStepAddsToItsObject) {
  const TemporaryFolder folder;
  const auto comm = single();
  RunRecorder recorder(quiet(folder.path()), *comm);
  recorder.record("loss", 0.123456789);
  recorder.flush(1);
  recorder.record("eval_accuracy", 1);
  recorder.flush(1);
  recorder.record("loss", 0.25);
  recorder.flush(2);
  const auto lines = rows(folder.path() / "metrics.jsonl");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_DOUBLE_EQ(lines[0]["loss"], 0.123456789);
  EXPECT_EQ(lines[0]["eval_accuracy"], 1);
  EXPECT_THROW(recorder.flush(1), InternalError);
}

TEST(RunRecorder, ResumeCutsLaterLinesAndDropsADamagedOne) {
  const TemporaryFolder folder;
  const auto comm = single();
  {
    RunRecorder recorder(quiet(folder.path()), *comm);
    for (int64_t step = 1; step <= 5; ++step) {
      recorder.record("loss", static_cast<double>(step));
      recorder.record_completion({.step = step, .prompt = "p", .completion = "c"});
      recorder.flush(step);
    }
  }
  for (const char* name : {"metrics.jsonl", "completions.jsonl"})
    std::ofstream(folder.path() / name, std::ios::app) << R"({"step": 3, "lo)";
  {
    RunRecorder recorder(quiet(folder.path(), 3), *comm);
    recorder.record("loss", 40);
    recorder.record_completion({.step = 4, .prompt = "p", .completion = "again"});
    recorder.flush(4);
  }
  const auto lines = rows(folder.path() / "metrics.jsonl");
  ASSERT_EQ(lines.size(), 4u);
  for (size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i]["step"], i + 1);
  EXPECT_EQ(lines[3]["loss"], 40);
  EXPECT_GE(lines[3]["elapsed_s"], lines[2]["elapsed_s"]);
  const auto completions = rows(folder.path() / "completions.jsonl");
  ASSERT_EQ(completions.size(), 4u);
  EXPECT_EQ(completions[3]["completion"], "again");
}

TEST(RunRecorder, StartsAnewWithoutResume) {
  const TemporaryFolder folder;
  const auto comm = single();
  for (int run = 0; run < 2; ++run) {
    RunRecorder recorder(quiet(folder.path()), *comm);
    recorder.record("loss", run);
    recorder.flush(1);
  }
  const auto lines = rows(folder.path() / "metrics.jsonl");
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0]["loss"], 1);
}

TEST(RunRecorder, KeepsSoManyCompletionsAStep) {
  const TemporaryFolder folder;
  const auto comm = single();
  auto options = quiet(folder.path());
  options.max_completions_per_step = 2;
  options.max_eval_completions = 3;
  RunRecorder recorder(options, *comm);
  for (int i = 0; i < 5; ++i) {
    recorder.record_completion({.step = 1, .phase = "train", .completion = std::to_string(i)});
    recorder.record_completion({.step = 1, .phase = "after", .completion = "\xff\xfe broken"});
  }
  recorder.flush(1);
  recorder.record_completion({.step = 1, .phase = "train", .completion = "late"});
  recorder.flush(1);
  EXPECT_EQ(rows(folder.path() / "completions.jsonl").size(), 5u);
}

TEST(RunRecorder, CompletionRowHasEveryField) {
  const TemporaryFolder folder;
  const auto comm = single();
  RunRecorder recorder(quiet(folder.path()), *comm);
  recorder.record_completion({.step = 7,
                              .prompt = "2+2?",
                              .completion = "4",
                              .reward = 1.5,
                              .rewards = {{"math_answer", 1}, {"length", std::nan("")}},
                              .advantage = -0.5,
                              .finish_reason = "stop",
                              .num_tokens = 3,
                              .answer = "4"});
  recorder.flush(7);
  EXPECT_EQ(rows(folder.path() / "completions.jsonl")[0],
            Json::parse(R"({"step": 7, "phase": "train", "prompt": "2+2?", "completion": "4",
                            "reward": 1.5, "rewards": {"math_answer": 1.0, "length": null},
                            "advantage": -0.5, "finish_reason": "stop", "num_tokens": 3,
                            "answer": "4"})"));
}

TEST(RunRecorder, RanksMayHoldDifferentKeys) {
  const TemporaryFolder folder;
  ThreadCommunicator::Shared shared(2);
  const auto work = [&](int rank) {
    ThreadCommunicator comm(shared, rank);
    RunRecorder recorder(quiet(folder.path()), comm);
    recorder.record("loss", rank == 0 ? 1 : 4, Reduce::kMean, rank == 0 ? 3 : 1);
    recorder.record("num_tokens", 10, Reduce::kSum);
    recorder.record("length/max", rank == 0 ? 5 : 9, Reduce::kMax);
    if (rank == 1) recorder.record("only_here", 7, Reduce::kMin);
    for (int i = 0; i < 2; ++i)
      recorder.record_completion({.step = 1, .completion = std::to_string(rank * 10 + i)});
    recorder.flush(1);
    EXPECT_DOUBLE_EQ(recorder.last().at("loss"), 1.75);
    EXPECT_DOUBLE_EQ(recorder.last().at("only_here"), 7);
  };
  std::thread other(work, 1);
  work(0);
  other.join();
  EXPECT_EQ(shared.num_collectives, 1);
  const auto lines = rows(folder.path() / "metrics.jsonl");
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0]["num_tokens"], 20);
  EXPECT_EQ(lines[0]["length/max"], 9);
  std::vector<std::string> order;
  for (const auto& row : rows(folder.path() / "completions.jsonl"))
    order.push_back(row["completion"]);
  EXPECT_EQ(order, (std::vector<std::string>{"0", "10", "1", "11"}));
}

TEST(RunRecorder, DescribesTheEnvironment) {
  const TemporaryFolder folder;
  const auto comm = single();
  auto options = quiet(folder.path());
  options.run_name = "first";
  options.total_steps = 12;
  RunRecorder recorder(options, *comm);
  recorder.write_environment({"meed", "train", "x.yaml"});
  recorder.set_total_steps(20);
  recorder.write_config("a: 1\n");
  const auto json = Json::parse(read_file(folder.path() / "environment.json"));
  EXPECT_EQ(json["run_name"], "first");
  EXPECT_EQ(json["total_steps"], 20);
  EXPECT_EQ(json["command_line"], (std::vector<std::string>{"meed", "train", "x.yaml"}));
  EXPECT_EQ(json["world_size"], 1);
  EXPECT_EQ(read_file(folder.path() / "config.yaml"), "a: 1\n");
}

TEST(JsonlLog, AReplacedLineMayBeShorter) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "x.jsonl";
  JsonlLog log(path, {});
  log.append(R"({"step":1})");
  log.append(R"({"step":2,"long":"xxxxxxxxxxxxxxxxxxxx"})");
  log.replace_last(R"({"step":2})");
  log.append(R"({"step":3})");
  EXPECT_EQ(read_file(path), "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
}

}  // namespace
}  // namespace meed
