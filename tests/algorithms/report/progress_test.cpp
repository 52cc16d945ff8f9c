#include "algorithms/report/progress.h"

#include <gtest/gtest.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <functional>

#include "libpolicy/core/log.h"

namespace meed {
namespace {

ProgressState full() {
  return {.step = 42,
          .total_steps = 200,
          .metrics = {{"reward", 0.53125},
                      {"loss", 0.0123},
                      {"learning_rate", 1e-6},
                      {"tokens_per_s", 1234.4},
                      {"memory/rss_mb", 2048},
                      {"memory/peak_rss_mb", 3072}},
          .seconds_left = 754,
          .stage = "update",
          .stage_done = 3,
          .stage_total = 8};
}

TEST(Progress, SaysEverythingWhereThereIsRoom) {
  EXPECT_EQ(format_progress(full(), 0),
            "step 42/200  21%  reward 0.5312  loss 0.0123  lr 1e-06  1234 tok/s  mem 2.0/3.0 GiB  "
            "left 12:34  update 3/8");
}

TEST(Progress, FitsEveryWidth) {
  for (int width = 1; width < 120; ++width)
    EXPECT_LE(format_progress(full(), width).size(), static_cast<size_t>(width));
  EXPECT_EQ(format_progress(full(), 50), "step 42/200  21%  reward 0.5312  left 12:34");
  EXPECT_EQ(format_progress(full(), 8), "step 42/");
}

TEST(Progress, WithoutRewardShowsLossAndAccuracy) {
  const ProgressState state{.step = 3, .metrics = {{"loss", 0.69}, {"accuracy", 0.5}}};
  EXPECT_EQ(format_progress(state, 0), "step 3  loss 0.69  acc 0.5");
}

TEST(Progress, NamesTheEvaluationOfTheStep) {
  const ProgressState state{.step = 3,
                            .metrics = {{"loss", 1}, {"eval_loss", 2}, {"eval_accuracy", 0.75}}};
  EXPECT_EQ(format_progress(state, 0), "step 3  loss 1  eval_accuracy 0.75");
}

TEST(Progress, Durations) {
  EXPECT_EQ(format_duration(0), "0:00");
  EXPECT_EQ(format_duration(59.6), "1:00");
  EXPECT_EQ(format_duration(3723), "1:02:03");
  EXPECT_EQ(format_duration(-1), "-");
  EXPECT_EQ(format_duration(std::nan("")), "-");
}

TEST(Progress, Numbers) {
  EXPECT_EQ(format_number(0.53125), "0.5312");
  EXPECT_EQ(format_number(123456), "123456");
  EXPECT_EQ(format_number(1e-6), "1e-06");
  EXPECT_EQ(format_number(std::nan("")), "nan");
}

TEST(Progress, LogLinesHoldNoControlCharacters) {
  testing::internal::CaptureStderr();
  {
    Progress progress(/*log_interval_s=*/0);
    progress.start(0, 2);
    progress.stage("generate", 1, 2);
    progress.update(1, {{"loss", 0.5}});
    progress.update(2, {{"loss", 0.25}});
  }
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_NE(text.find("step 1/2  50%  loss 0.5"), std::string::npos) << text;
  EXPECT_NE(text.find("step 2/2 100%  loss 0.25"), std::string::npos) << text;
  EXPECT_EQ(text.find_first_of("\r\033"), std::string::npos);
}

TEST(Progress, TheLastStepIsAlwaysLogged) {
  testing::internal::CaptureStderr();
  {
    Progress progress(/*log_interval_s=*/1000);
    progress.start(0, 3);
    for (int64_t step = 1; step <= 3; ++step) progress.update(step, {});
  }
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(text.find("step 2/3"), std::string::npos);
  EXPECT_NE(text.find("step 3/3"), std::string::npos);
}

/// What `work` writes to a terminal of so many columns that stands in for standard error.
std::string on_terminal(unsigned short columns, const std::function<void(int terminal)>& work) {
  int master = -1, slave = -1;
  winsize size{.ws_row = 24, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
  if (::openpty(&master, &slave, nullptr, nullptr, &size) != 0) return "";
  const int saved = ::dup(STDERR_FILENO);
  ::dup2(slave, STDERR_FILENO);
  ::setenv("TERM", "xterm", 1);
  ::setenv("NO_COLOR", "1", 1);
  work(slave);
  ::dup2(saved, STDERR_FILENO);
  ::close(saved);
  ::close(slave);
  // What was written arrives in pieces; with the last writer gone the end of it is an error.
  std::string text;
  char piece[4096];
  for (ssize_t length; (length = ::read(master, piece, sizeof piece)) > 0;)
    text.append(piece, static_cast<size_t>(length));
  ::close(master);
  return text;
}

TEST(Progress, ATerminalsLineIsRewrittenInPlaceAndFits) {
  const std::string text = on_terminal(40, [](int terminal) {
    Progress progress(0);
    progress.start(0, 200);
    progress.update(1, full().metrics);
    winsize narrow{.ws_row = 24, .ws_col = 20, .ws_xpixel = 0, .ws_ypixel = 0};
    ::ioctl(terminal, TIOCSWINSZ, &narrow);  // the window shrinks while the run goes on
    progress.update(2, full().metrics);
  });
  EXPECT_EQ(text,
            "\rstep 1/200   0%  reward 0.5312\033[K"
            "\rstep 2/200   1%\033[K"
            "\rstep 2/200   1%\033[K\r\n");
}

TEST(Progress, ATerminalsLineGivesWayToLogLines) {
  const std::string text = on_terminal(40, [](int) {
    Progress progress(0);
    progress.start(0, 2);
    progress.update(1, {});
    log_info("saved");
    progress.update(2, {});
  });
  const auto line = text.find("info saved\r\n");
  ASSERT_NE(line, std::string::npos) << text;
  EXPECT_EQ(text.rfind("\rstep 1/2  50%", line), 0u) << text;
  EXPECT_NE(text.find("\r\033[K"), std::string::npos);
  EXPECT_NE(text.find("\rstep 2/2 100%", line), std::string::npos);
}

}  // namespace
}  // namespace meed
