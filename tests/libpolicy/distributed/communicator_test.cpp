#include "libpolicy/distributed/communicator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "libpolicy/core/error.h"
#include "libpolicy/distributed/gradient_reducer.h"
#include "tests/libpolicy/distributed/processes.h"

namespace meed {
namespace {

using testing::run_processes;
using Clock = std::chrono::steady_clock;

constexpr int kTimeoutS = 60;
constexpr int kSoonS = 15;  // for a death to be noticed, on a loaded machine

double seconds_since(Clock::time_point began) {
  return std::chrono::duration<double>(Clock::now() - began).count();
}

std::string collectives(Communicator& comm) {
  const double n = comm.size();
  const auto value = [&](ReduceOp op) {
    at::Tensor x = at::full({2}, comm.rank() + 1.0, at::kDouble);
    comm.all_reduce(x, op);
    return x[1].item<double>();
  };
  MEED_CHECK(value(ReduceOp::kSum) == n * (n + 1) / 2, "sum");
  MEED_CHECK(value(ReduceOp::kMean) == (n + 1) / 2, "mean");
  MEED_CHECK(value(ReduceOp::kMin) == 1.0 && value(ReduceOp::kMax) == n, "min, max");
  at::Tensor columns = at::full({3, 2}, 1.0F).t();  // not contiguous: still in place
  comm.all_reduce(columns, ReduceOp::kSum);
  MEED_CHECK(columns.eq(n).all().item<bool>(), "strided sum");
  at::Tensor x = at::full({1}, comm.rank(), at::kLong);
  comm.broadcast(x, comm.size() - 1);
  MEED_CHECK(x.item<int64_t>() == comm.size() - 1, "broadcast");
  const auto gathered = comm.all_gather(at::full({2}, comm.rank(), at::kLong));
  MEED_CHECK(gathered.size(0) == comm.size() &&
                 gathered[comm.size() - 1][1].item<int64_t>() == comm.size() - 1,
             "all_gather");
  const auto words = comm.all_gather(std::string(static_cast<size_t>(comm.rank()) * 3, 'x'));
  for (int i = 0; i < comm.size(); ++i)
    MEED_CHECK(words[static_cast<size_t>(i)] == std::string(static_cast<size_t>(i) * 3, 'x'),
               "strings");
  const auto half = comm.split(comm.rank() % 2);
  at::Tensor sum = at::full({1}, comm.rank(), at::kLong);
  half->all_reduce(sum, ReduceOp::kSum);
  int64_t expected = 0;
  for (int i = comm.rank() % 2; i < comm.size(); i += 2) expected += i;
  MEED_CHECK(sum.item<int64_t>() == expected && half->rank() == comm.rank() / 2, "split");
  comm.barrier();
  return "ok";
}

TEST(Communicator, CollectivesAgreeOnOneTwoAndFourProcesses) {
  for (const int size : {1, 2, 4})
    for (const auto& result : run_processes(size, collectives)) EXPECT_EQ(result.output, "ok");
}

TEST(Communicator, UnevenWorkIsWaitedFor) {
  const auto results = run_processes(2, [](Communicator& comm) {
    for (int i = 0; i < 3; ++i) {
      if (comm.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(700));
      at::Tensor x = at::ones({1});
      comm.all_reduce(x, ReduceOp::kSum);
    }
    return std::string("ok");
  });
  for (const auto& result : results) EXPECT_EQ(result.output, "ok");
}

// The sum over ranks of what each rank holds is the same however the rows are dealt out.
std::string reduced_gradients(Communicator& comm) {
  constexpr int64_t kRows = 8;
  std::vector<at::Tensor> parameters;
  for (const int64_t n : {3, 5, 2, 4}) parameters.push_back(at::zeros({n}).requires_grad_());
  for (int64_t row = comm.rank(); row < kRows; row += comm.size()) {
    // The second parameter has a gradient from one row only, the last from none.
    for (size_t p = 0; p < 3; ++p) {
      if (p == 1 && row != 3) continue;
      auto& gradient = parameters[p].mutable_grad();
      const auto part =
          at::arange(parameters[p].numel()).to(at::kFloat) * 0.1F * static_cast<float>(row + 1);
      gradient = gradient.defined() ? gradient + part : part;
    }
  }
  GradientReducer(comm, parameters, /*bucket_bytes=*/24).reduce();
  MEED_CHECK(!parameters[3].grad().defined(), "a gradient came from nowhere");
  std::string text;
  for (size_t p = 0; p < 3; ++p)
    for (int64_t i = 0; i < parameters[p].numel(); ++i)
      text += std::to_string(std::lround(parameters[p].grad()[i].item<float>() * 1e4)) + " ";
  return text;
}

TEST(GradientReducer, OneTwoAndFourProcessesGiveTheSameSums) {
  const auto single = run_processes(1, reduced_gradients)[0];
  ASSERT_EQ(single.exit_code, 0) << single.output;
  for (const int size : {2, 4})
    for (const auto& result : run_processes(size, reduced_gradients))
      EXPECT_EQ(result.output, single.output);
}

TEST(Communicator, AKilledRankStopsTheOthersSoonAndByName) {
  const auto began = Clock::now();
  const auto results = run_processes(
      4,
      [](Communicator& comm) {
        comm.barrier();
        if (comm.rank() == 2) {
          std::this_thread::sleep_for(std::chrono::seconds(1));
          std::raise(SIGKILL);
        }
        comm.barrier();
        return std::string("went on");
      },
      kTimeoutS);
  EXPECT_LT(seconds_since(began), kSoonS);
  EXPECT_TRUE(results[2].killed);
  for (const size_t rank : {0, 1, 3}) {
    EXPECT_EQ(results[rank].exit_code, 1);
    EXPECT_NE(results[rank].output.find("rank 2 has died"), std::string::npos)
        << results[rank].output;
  }
}

TEST(Communicator, AKilledHostOfTheStoreIsNoticed) {
  const auto began = Clock::now();
  const auto results = run_processes(
      2,
      [](Communicator& comm) {
        comm.barrier();
        if (comm.rank() == 0) std::raise(SIGKILL);
        comm.barrier();
        return std::string("went on");
      },
      kTimeoutS);
  EXPECT_LT(seconds_since(began), kSoonS);
  EXPECT_EQ(results[1].exit_code, 1);
  EXPECT_NE(results[1].output.find("rank 0"), std::string::npos) << results[1].output;
}

TEST(Communicator, AFailingRankTellsTheOthersWhy) {
  for (const int failing : {0, 1}) {
    const auto began = Clock::now();
    const auto results = run_processes(
        3,
        [&](Communicator& comm) -> std::string {
          comm.barrier();
          if (comm.rank() == failing) throw DataError("train.jsonl:812: \"chosen\" is missing");
          comm.barrier();
          return "went on";
        },
        kTimeoutS);
    EXPECT_LT(seconds_since(began), kSoonS);
    for (const auto& result : results) {
      EXPECT_EQ(result.exit_code, 1);
      EXPECT_NE(result.output.find("train.jsonl:812"), std::string::npos) << result.output;
    }
  }
}

TEST(Communicator, AStuckRankIsGivenUpAtTheTimeout) {
  const auto began = Clock::now();
  const auto results = run_processes(
      2,
      [](Communicator& comm) {
        comm.barrier();
        if (comm.rank() == 1) std::this_thread::sleep_for(std::chrono::seconds(6));
        comm.barrier();
        return std::string("went on");
      },
      /*timeout_s=*/3);
  EXPECT_LT(seconds_since(began), kSoonS);
  EXPECT_EQ(results[0].exit_code, 1);
  EXPECT_NE(results[0].output.find("no answer within 3 s"), std::string::npos) << results[0].output;
}

TEST(Communicator, NamesTheRankThatNeverCame) {
  const LaunchEnv env{.rank = 0, .world_size = 2, .master_port = testing::free_port()};
  const auto began = Clock::now();
  try {
    (void)Communicator::create(env, at::kCPU, "gloo", /*timeout_s=*/1);
    FAIL() << "joined a process that is not there";
  } catch (const DistributedError& e) {
    EXPECT_NE(std::string(e.what()).find("rank 1 has not come"), std::string::npos) << e.what();
  }
  EXPECT_LT(seconds_since(began), kSoonS);
}

// Run under torchrun by the test below.
TEST(Torchrun, DISABLED_Worker) {
  const auto env = LaunchEnv::from_environment();
  ASSERT_EQ(env.launcher, "torchrun");
  ASSERT_EQ(env.world_size, 2);
  const auto comm = Communicator::create(env, at::kCPU, "auto", kTimeoutS);
  EXPECT_EQ(collectives(*comm), "ok");
}

TEST(Torchrun, ProcessesOfARealLauncherFindEachOther) {
  const char* given = std::getenv("MEED_TORCHRUN");
  const auto own = std::filesystem::path(MEED_SOURCE_DIR) / ".deps/torchrun/bin/torchrun";
  const std::string torchrun = given != nullptr               ? given
                               : std::filesystem::exists(own) ? own.string()
                                                              : "torchrun";
  if (std::system((torchrun + " --help > /dev/null 2>&1").c_str()) != 0)
    GTEST_SKIP() << "no torchrun; docs/building.md says how to get one";
  const auto self = std::filesystem::canonical("/proc/self/exe").string();
  const std::string command =
      torchrun + " --no-python --nproc-per-node 2 --master-addr 127.0.0.1 --master-port " +
      std::to_string(testing::free_port()) + " " + self +
      " --gtest_also_run_disabled_tests --gtest_filter=Torchrun.DISABLED_Worker > /dev/null 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
}

}  // namespace
}  // namespace meed
