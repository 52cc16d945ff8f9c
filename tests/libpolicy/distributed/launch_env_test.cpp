#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "libpolicy/core/error.h"
#include "libpolicy/distributed/communicator.h"

namespace meed {
namespace {

/// The environment that a launcher would make; restores what was there.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::string>& values) {
    for (const char* name :
         {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "OMPI_COMM_WORLD_RANK",
          "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS",
          "SLURM_LOCALID", "SLURM_STEP_ID", "SLURM_JOB_ID", "SLURM_NODELIST",
          "SLURM_STEP_NODELIST"}) {
      if (const char* value = std::getenv(name)) before_[name] = value;
      names_.push_back(name);
      ::unsetenv(name);
    }
    for (const auto& [name, value] : values) ::setenv(name.c_str(), value.c_str(), 1);
  }
  ~Environment() {
    for (const auto& name : names_) ::unsetenv(name.c_str());
    for (const auto& [name, value] : before_) ::setenv(name.c_str(), value.c_str(), 1);
  }

 private:
  std::vector<std::string> names_;
  std::map<std::string, std::string> before_;
};

TEST(LaunchEnv, WithoutALauncherThereIsOneProcess) {
  const Environment environment({});
  const auto env = LaunchEnv::from_environment();
  EXPECT_EQ(env.world_size, 1);
  EXPECT_EQ(env.launcher, "none");
}

TEST(LaunchEnv, ReadsTorchrun) {
  const Environment environment({{"RANK", "3"},
                                 {"WORLD_SIZE", "4"},
                                 {"LOCAL_RANK", "1"},
                                 {"MASTER_ADDR", "node7"},
                                 {"MASTER_PORT", "1234"}});
  const auto env = LaunchEnv::from_environment();
  EXPECT_EQ(env.launcher, "torchrun");
  EXPECT_EQ(env.rank, 3);
  EXPECT_EQ(env.local_rank, 1);
  EXPECT_EQ(env.master_addr, "node7");
  EXPECT_EQ(env.master_port, 1234);
}

TEST(LaunchEnv, ReadsSlurmAndItsFirstHost) {
  const std::map<std::string, std::string> hosts = {{"node[03-07,9],other", "node03"},
                                                    {"gpu[1,5]", "gpu1"},
                                                    {"alpha,beta[1-2]", "alpha"},
                                                    {"solo", "solo"}};
  for (const auto& [list, first] : hosts) {
    const Environment environment({{"SLURM_PROCID", "2"},
                                   {"SLURM_NTASKS", "8"},
                                   {"SLURM_LOCALID", "0"},
                                   {"SLURM_STEP_ID", "0"},
                                   {"SLURM_JOB_ID", "123456"},
                                   {"SLURM_NODELIST", list}});
    const auto env = LaunchEnv::from_environment();
    EXPECT_EQ(env.launcher, "slurm");
    EXPECT_EQ(env.rank, 2);
    EXPECT_EQ(env.world_size, 8);
    EXPECT_EQ(env.master_addr, first);
    EXPECT_EQ(env.master_port, 29500 + 123456 % 10000);
  }
}

TEST(LaunchEnv, ReadsOpenMpi) {
  const Environment environment({{"OMPI_COMM_WORLD_RANK", "1"},
                                 {"OMPI_COMM_WORLD_SIZE", "2"},
                                 {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}});
  const auto env = LaunchEnv::from_environment();
  EXPECT_EQ(env.launcher, "openmpi");
  EXPECT_EQ(env.rank, 1);
  EXPECT_EQ(env.master_addr, "127.0.0.1");
}

TEST(LaunchEnv, WrongVariablesAreNamed) {
  const std::vector<std::map<std::string, std::string>> wrong = {
      {{"RANK", "one"}, {"WORLD_SIZE", "2"}},
      {{"WORLD_SIZE", "2"}},
      {{"RANK", "-1"}, {"WORLD_SIZE", "2"}}};
  for (const auto& values : wrong) {
    const Environment environment(values);
    try {
      LaunchEnv::from_environment();
      FAIL() << "accepted";
    } catch (const ConfigError& e) {
      EXPECT_NE(std::string(e.what()).find("RANK"), std::string::npos) << e.what();
    }
  }
  const Environment environment({{"RANK", "2"}, {"WORLD_SIZE", "2"}});
  EXPECT_THROW(LaunchEnv::from_environment(), ConfigError);
}

TEST(Communicator, WithoutTheCudaLibraryNcclSaysWhatIsMissing) {
  try {
    Communicator::create({.world_size = 2}, at::kCPU, "nccl", 1);
    GTEST_SKIP() << "libmeed_cuda.so is there";
  } catch (const ConfigError& e) {
    EXPECT_NE(std::string(e.what()).find("libmeed_cuda.so"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace meed
