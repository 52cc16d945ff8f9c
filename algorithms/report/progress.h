#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace meed {

/// What a progress line can say.
struct ProgressState {
  int64_t step = 0;
  int64_t total_steps = 0;                ///< 0: not known
  std::map<std::string, double> metrics;  ///< of the last flush
  double seconds_left = -1;               ///< negative: not known
  std::string stage;                      ///< "generate", ...; "" between stages
  int64_t stage_done = 0, stage_total = 0;
};

/// "1:02:03", "12:34"; "-" if negative or not finite.
std::string format_duration(double seconds);
/// Four significant digits, plain or with an exponent: "0.5312", "1e-06", "nan".
std::string format_number(double value);

/// The line without control characters, at most `width` characters (0: no limit). Where there is
/// no room the stage, memory, learning rate, speed and second number are left out, in this order.
std::string format_progress(const ProgressState& state, int width);

/// Progress on standard error. In a terminal one line that is rewritten in place and gives way to
/// log lines; elsewhere a log line per step, at most one in `log_interval_s`. stage() and the log's
/// hook may be called at the same time from different threads.
class Progress {
 public:
  explicit Progress(double log_interval_s);
  ~Progress();  ///< Ends the terminal's line with a newline.
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void start(int64_t step, int64_t total_steps);  ///< The clock for the time left starts here.
  void update(int64_t step, const std::map<std::string, double>& metrics);
  void stage(const std::string& name, int64_t done, int64_t total);

 private:
  using Clock = std::chrono::steady_clock;
  void draw(bool always);
  void clear();
  std::mutex mutex_;
  ProgressState state_;
  const bool terminal_;
  const double log_interval_s_;
  bool visible_ = false;
  int64_t last_step_ = 0;
  Clock::time_point last_update_ = Clock::now();
  Clock::time_point last_draw_{}, last_log_{};
  double seconds_per_step_ = -1;
};

}  // namespace meed
