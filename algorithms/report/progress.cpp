#include "algorithms/report/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "libpolicy/core/log.h"

namespace meed {
namespace {

constexpr double kRedrawInterval_s = 0.1;

/// A part of the line and how dearly it is kept: 0 always, larger numbers go first.
struct Part {
  std::string text;
  int expendable;
};

class Parts {
 public:
  explicit Parts(const ProgressState& state) : state_(state) {}
  /// The metric under `label`, if it was recorded; says so.
  bool add(const char* label, const char* key, int expendable, const char* unit = "") {
    const auto metric = state_.metrics.find(key);
    if (metric == state_.metrics.end()) return false;
    parts_.push_back({label + format_number(metric->second) + unit, expendable});
    return true;
  }
  void add(std::string text, int expendable) { parts_.push_back({std::move(text), expendable}); }
  std::string join(int width);

 private:
  const ProgressState& state_;
  std::vector<Part> parts_;
};

std::string Parts::join(int width) {
  const auto length = [&] {
    size_t sum = 0;
    for (const auto& part : parts_) sum += part.text.size() + 2;
    return static_cast<int>(sum) - 2;
  };
  while (width > 0 && parts_.size() > 1 && length() > width) {
    const auto least =
        std::max_element(parts_.begin(), parts_.end(),
                         [](const Part& a, const Part& b) { return a.expendable <= b.expendable; });
    parts_.erase(least);
  }
  std::string line;
  for (const auto& part : parts_) line += (line.empty() ? "" : "  ") + part.text;
  if (width > 0 && line.size() > static_cast<size_t>(width))
    line.resize(static_cast<size_t>(width));
  return line;
}

std::string memory_text(const ProgressState& state) {
  const auto rss = state.metrics.find("memory/rss_mb");
  const auto peak = state.metrics.find("memory/peak_rss_mb");
  if (rss == state.metrics.end() || peak == state.metrics.end()) return "";
  constexpr double kMiBPerGiB = 1024;
  char text[64];
  std::snprintf(text, sizeof text, "mem %.1f/%.1f GiB", rss->second / kMiBPerGiB,
                peak->second / kMiBPerGiB);
  return text;
}

std::string step_text(const ProgressState& state) {
  std::string text = "step " + std::to_string(state.step);
  if (state.total_steps <= 0) return text;
  char tail[48];
  std::snprintf(tail, sizeof tail, "/%lld %3lld%%", static_cast<long long>(state.total_steps),
                static_cast<long long>(100 * state.step / state.total_steps));
  return text + tail;
}

/// The evaluation of this flush that says most, for the log file: accuracy, else reward or loss.
void add_evaluation(Parts& parts) {
  for (const char* key : {"eval_accuracy", "eval_rewards/accuracies", "eval_reward", "eval_loss"})
    if (parts.add((std::string(key) + " ").c_str(), key, 2)) return;
}

bool stderr_is_terminal() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) == 1 && term != nullptr && std::string_view(term) != "dumb";
}

/// Asked at every drawing, so that a resized window needs no signal handler.
int terminal_width() {
  constexpr int kUsual = 80;
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kUsual;
  return size.ws_col;
}

/// In one write: a terminal never shows half of it.
void write_stderr(const std::string& text) {
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
}

std::string coloured(const std::string& line) {
  if (std::getenv("NO_COLOR") != nullptr) return line;
  const auto end_of_step = line.find("  ");
  if (end_of_step == std::string::npos) return line;
  return "\033[36m" + line.substr(0, end_of_step) + "\033[0m" + line.substr(end_of_step);
}

}  // namespace

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "-";
  const auto whole = static_cast<long long>(seconds + 0.5);
  char text[48];
  if (whole >= 3600)
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60,
                  whole % 60);
  else
    std::snprintf(text, sizeof text, "%lld:%02lld", whole / 60, whole % 60);
  return text;
}

std::string format_number(double value) {
  char text[32];
  const double size = std::fabs(value);
  if (size >= 1000 && size < 1e7)
    std::snprintf(text, sizeof text, "%.0f", value);
  else
    std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

std::string format_progress(const ProgressState& state, int width) {
  Parts parts(state);
  parts.add(step_text(state), 0);
  const bool has_reward = parts.add("reward ", "reward", 1);
  parts.add("loss ", "loss", has_reward ? 3 : 1);
  if (!has_reward && !parts.add("acc ", "rewards/accuracies", 3)) parts.add("acc ", "accuracy", 3);
  add_evaluation(parts);
  parts.add("lr ", "learning_rate", 5);
  parts.add("", "tokens_per_s", 4, " tok/s");
  if (const std::string memory = memory_text(state); !memory.empty()) parts.add(memory, 6);
  if (state.seconds_left >= 0) parts.add("left " + format_duration(state.seconds_left), 2);
  if (!state.stage.empty()) {
    std::string stage = state.stage;
    if (state.stage_total > 0)
      stage += " " + std::to_string(state.stage_done) + "/" + std::to_string(state.stage_total);
    parts.add(stage, 7);
  }
  return parts.join(width);
}

Progress::Progress(double log_interval_s)
    : terminal_(stderr_is_terminal()), log_interval_s_(log_interval_s) {
  if (terminal_)
    set_log_hook([this] {
      const std::lock_guard lock(mutex_);
      clear();
    });
}

Progress::~Progress() {
  if (!terminal_) return;
  set_log_hook({});
  const std::lock_guard lock(mutex_);
  state_.stage.clear();
  if (visible_) draw(/*always=*/true);
  if (visible_) write_stderr("\n");
}

void Progress::start(int64_t step, int64_t total_steps) {
  const std::lock_guard lock(mutex_);
  state_.step = last_step_ = step;
  state_.total_steps = total_steps;
  last_update_ = Clock::now();
}

void Progress::update(int64_t step, const std::map<std::string, double>& metrics) {
  std::string line;
  {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    if (step > last_step_) {
      const double seconds = std::chrono::duration<double>(now - last_update_).count() /
                             static_cast<double>(step - last_step_);
      constexpr double kSmoothing = 0.2;  // recent steps count most: lengths drift
      seconds_per_step_ = seconds_per_step_ < 0
                              ? seconds
                              : seconds_per_step_ + kSmoothing * (seconds - seconds_per_step_);
    }
    if (step != last_step_) state_.metrics.clear();
    for (const auto& [key, value] : metrics) state_.metrics[key] = value;
    last_step_ = step;
    last_update_ = now;
    state_.step = step;
    state_.stage.clear();
    state_.seconds_left = seconds_per_step_ >= 0 && state_.total_steps > 0
                              ? seconds_per_step_ * static_cast<double>(std::max<int64_t>(
                                                        0, state_.total_steps - step))
                              : -1;
    if (terminal_) return draw(/*always=*/true);
    const bool due = std::chrono::duration<double>(now - last_log_).count() >= log_interval_s_ ||
                     step == state_.total_steps;
    if (!due) return;
    last_log_ = now;
    line = format_progress(state_, /*width=*/0);
  }
  log_info(line);  // outside the lock: the log calls back into clear()
}

void Progress::stage(const std::string& name, int64_t done, int64_t total) {
  if (!terminal_) return;
  const std::lock_guard lock(mutex_);
  const bool is_new = name != state_.stage;
  state_.stage = name;
  state_.stage_done = done;
  state_.stage_total = total;
  draw(/*always=*/is_new);
}

void Progress::draw(bool always) {
  const auto now = Clock::now();
  if (!always && std::chrono::duration<double>(now - last_draw_).count() < kRedrawInterval_s)
    return;
  last_draw_ = now;
  // One column stays free: a full line would wrap and could not be rewritten.
  const std::string line = format_progress(state_, terminal_width() - 1);
  write_stderr("\r" + coloured(line) + "\033[K");  // the rest is cleared last: no flicker
  visible_ = true;
}

void Progress::clear() {
  if (!visible_) return;
  write_stderr("\r\033[K");
  visible_ = false;
}

}  // namespace meed
