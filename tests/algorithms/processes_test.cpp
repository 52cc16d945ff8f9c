#include <csignal>
#include <random>

#include "libpolicy/core/files.h"
#include "tests/algorithms/program.h"

// What a cluster does to a run: it is split over processes, and killed at any moment.

namespace meed {
namespace {

class Processes : public ProgramTest {
 protected:
  static std::string online(
      const std::string& name, const std::string& algorithm, int steps,
      const std::string& rewards = "[{type: format, pattern: \"[a-m]\", match: search}]") {
    const auto path = folder_ / (name + ".yaml");
    std::ofstream(path) << "run: {output_dir: " << (folder_ / name).string()
                        << ", seed: 3, max_steps: " << steps << ", save_steps: 2}\n"
                        << "model: {path: " << (folder_ / "tiny").string() << "}\n"
                        << "algorithm: {" << algorithm << "}\n"
                        << "data: {type: arithmetic, num_rows: 64}\n"
                        << "rewards: " << rewards << "\n"
                        << "rollout: {num_generations: 4, max_completion_length: 6}\n"
                        << "optim: {learning_rate: 1.0e-3, per_device_train_batch_size: 16, "
                           "lr_scheduler_type: constant}\n";
    return path.string();
  }

  /// Starts the program and kills it after `seconds`; its exit code if it ended before that.
  static std::optional<int> run_for(const std::vector<std::string>& arguments, double seconds) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::setenv("OMP_NUM_THREADS", "1", 1);
      std::freopen("/dev/null", "w", stderr);
      std::freopen("/dev/null", "w", stdout);
      std::vector<char*> argv{const_cast<char*>(MEED_PROGRAM)};
      for (const auto& each : arguments) argv.push_back(const_cast<char*>(each.c_str()));
      argv.push_back(nullptr);
      ::execv(MEED_PROGRAM, argv.data());
      ::_exit(127);
    }
    for (double waited = 0.0; waited < seconds; waited += 0.01) {
      int status = 0;
      if (::waitpid(child, &status, WNOHANG) == child)
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    return std::nullopt;
  }
};

TEST_F(Processes, TwoAndFourGiveTheLossesOfOne) {
  const std::vector<std::array<std::string, 3>> cases = {
      {"ppo", "type: ppo, num_ppo_epochs: 2",
       "[{type: format, pattern: \"[a-m]\", match: search}]"},
      {"grpo", "type: grpo, beta: 0.02, num_iterations: 2, scale_rewards: batch",
       "[{type: format, pattern: \"[a-m]\", match: search}, {type: length_penalty, free_tokens: 1, "
       "scale_tokens: 4}]"},
      {"stable", "type: reinforce_plus_plus, beta: 0.01, pre_clip: 1000, advantage_filter: 3",
       "[{type: format, pattern: \"[a-m]\", match: search}]"},
      {"pref_grpo", "type: grpo",
       "[{type: win_rate, judge: {type: reward, hard: true, reward: {type: format, pattern: "
       "\"[a-m]\", match: search}}}]"}};
  for (const auto& [name, algorithm, rewards] : cases) {
    const auto path = online(name, algorithm, 3, rewards);
    expect_equal_in_processes(2, path, name, "optim.per_device_train_batch_size=8");
    expect_equal_in_processes(4, path, name, "optim.per_device_train_batch_size=4");
  }
}

TEST_F(Processes, AFolderThatAnotherRunWritesToIsRefused) {
  const auto path =
      online("twice", "type: grpo", 2, "[{type: format, pattern: \"[a-m]\", match: search}]");
  {
    const FolderLock other(folder_ / "twice", std::chrono::milliseconds(0));
    EXPECT_EQ(run("train " + path), 2);
    EXPECT_NE(errors().find("another run writes there"), std::string::npos) << errors();
    EXPECT_FALSE(fs::exists(folder_ / "twice" / "metrics.jsonl"));
  }
  EXPECT_EQ(run("train " + path), 0) << errors();
}

/// 20 kills at random moments, each followed by --resume; every loss is that of an uninterrupted
/// run.
TEST_F(Processes, KilledTwentyTimesEndsLikeAnUninterruptedRun) {
  const auto path = online("killed", "type: ppo, num_ppo_epochs: 1, kl_target: 0.1", 60,
                           "[{type: length_penalty, free_tokens: 1, scale_tokens: 1, transforms: "
                           "[{type: normalize, over: running}]}]");
  const auto straight = folder_ / "killed-straight", killed = folder_ / "killed";
  ASSERT_EQ(run("train " + path + " run.output_dir=" + straight.string()), 0) << errors();
  std::mt19937 random(7);
  std::uniform_real_distribution<double> moment(0.1, 3.0);
  int kills = 0;
  std::optional<int> code;
  for (; kills < 20 && !code; ++kills) code = run_for({"train", path, "--resume"}, moment(random));
  if (!code) code = run("train " + path + " --resume");
  ASSERT_EQ(*code, 0) << errors();
  EXPECT_EQ(losses(straight), losses(killed));
  RecordProperty("kills", kills);
}

}  // namespace
}  // namespace meed
