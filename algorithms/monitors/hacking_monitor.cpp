#include "algorithms/monitors/hacking_monitor.h"

#include <re2/re2.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <sstream>

#include "libpolicy/core/error.h"
#include "libpolicy/core/ranking.h"

namespace meed {
namespace {

double mean(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) /
         static_cast<double>(std::max<size_t>(values.size(), 1));
}

double deviation(std::span<const double> values) {
  const double centre = mean(values);
  double sum = 0.0;
  for (const double value : values) sum += (value - centre) * (value - centre);
  return std::sqrt(sum / static_cast<double>(std::max<size_t>(values.size(), 2) - 1));
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

std::string joined(const std::vector<double>& values) {
  std::string text;
  char one[40];
  for (const double value : values) {
    std::snprintf(one, sizeof one, "%.17g ", value);
    text += one;
  }
  return text;
}

std::vector<double> split(const std::string& text) {
  std::istringstream stream(text);
  std::vector<double> values;
  for (double value; stream >> value;) values.push_back(value);
  return values;
}

}  // namespace

void MonitorSection::fields(FieldVisitor& v) {
  v.field("gold", gold,
          "Name of a reward, usually of weight 0, that the policy is not to be judged by but "
          "watched with; empty: none.");
  v.field("window", window, "Generations over which proxy and gold are compared.");
  v.field("patience", patience, "Generations in a row that must disagree before the alarm.");
  v.field("base_points", base_points, "First generations, which drift is measured from.");
  v.field("drift_sd", drift_sd,
          "Deviations of length or refusals that raise an alarm, as of a normal distribution whose "
          "mean and spread are only known from base_points.");
  v.field("drift_change", drift_change,
          "Least change that raises it: a share of the first length, or of all completions.");
  v.field("refusal_pattern", refusal_pattern, "Regular expression of a refusal (RE2).");
  v.field("stop", stop, "End the run at an alarm, with a checkpoint.");
  v.require(window > 2, "window", "must be at least 3");
  v.require(patience > 0, "patience", "must be positive");
  v.require(base_points > 1, "base_points", "must be at least 2");
  v.require(drift_sd > 0, "drift_sd", "must be positive");
  v.require(drift_change >= 0, "drift_change", "must not be negative");
  const re2::RE2 pattern(refusal_pattern, re2::RE2::Quiet);
  v.require(pattern.ok(), "refusal_pattern", "is not a regular expression: " + pattern.error());
}

double deviations_from(double mean, double deviation, size_t count, double value) {
  const auto n = static_cast<double>(count), df = n - 1.0;
  const double t = (value - mean) / (deviation * std::sqrt(1.0 + 1.0 / n));
  const double z = (8.0 * df + 1.0) / (8.0 * df + 3.0) * std::sqrt(df * std::log1p(t * t / df));
  return std::copysign(z, t);
}

HackingMonitor::HackingMonitor(const MonitorSection& config)
    : config_(config),
      length_state_{.least_change = config.drift_change},
      refusals_state_{.least_change = config.drift_change, .unit = 1.0},
      refusal_(std::make_unique<re2::RE2>(config.refusal_pattern, re2::RE2::Quiet)) {}
HackingMonitor::~HackingMonitor() = default;

bool HackingMonitor::is_refusal(std::string_view text) const {
  return re2::RE2::PartialMatch(re2::StringPiece(text.data(), text.size()), *refusal_);
}

MonitorReport HackingMonitor::add(const MonitorPoint& point) {
  MonitorReport report;
  length_.push_back(point.length);
  refusals_.push_back(point.refusals);
  check_drift("length", length_, length_state_, report.length_drift, report);
  check_drift("refusals", refusals_, refusals_state_, report.refusal_drift, report);
  if (!point.gold || !std::isfinite(*point.gold) || !std::isfinite(point.proxy)) return report;
  proxy_.push_back(point.proxy);
  gold_.push_back(*point.gold);
  kl_.push_back(point.kl);
  const auto peak = std::max_element(gold_.begin(), gold_.end());
  report.peak_gold = *peak;
  report.kl_at_peak = kl_[static_cast<size_t>(peak - gold_.begin())];
  check_mismatch(report);
  return report;
}

void HackingMonitor::check_mismatch(MonitorReport& report) {
  const auto window = static_cast<size_t>(config_.window);
  if (proxy_.size() < window) return;
  const auto recent_proxy = std::span<const double>(proxy_).last(window);
  report.spearman = rank_correlation(recent_proxy, std::span<const double>(gold_).last(window));
  const bool mismatch = *report.spearman < 0.0 && recent_proxy.back() > recent_proxy.front();
  mismatches_ = mismatch ? mismatches_ + 1 : 0;
  if (mismatches_ == config_.patience)
    report.alarms.push_back("the reward rises while " + config_.gold + " falls (rank correlation " +
                            number(*report.spearman) + " over " + std::to_string(window) +
                            " generations); " + config_.gold + " was best at " +
                            number(*report.peak_gold) + ", KL " + number(report.kl_at_peak));
}

void HackingMonitor::check_drift(const char* what, std::span<const double> values, Drift& state,
                                 double& drift, MonitorReport& report) const {
  const auto base = static_cast<size_t>(config_.base_points);
  if (values.size() <= base) return;
  const auto first = values.first(base);
  const double centre = mean(first);
  // Lengths that are all equal at first would make any change infinite.
  const double spread = std::max(deviation(first), 0.01 * std::abs(centre) + 1e-3);
  drift = deviations_from(centre, spread, base, values.back());
  const bool far =
      std::abs(drift) > config_.drift_sd &&
      std::abs(values.back() - centre) > state.least_change * std::max(centre, state.unit);
  state.points = far ? state.points + 1 : 0;
  if (state.points == config_.patience)
    report.alarms.push_back(std::string(what) + " drifted from " + number(centre) + " to " +
                            number(values.back()) + " (" + number(drift) + " deviations)");
}

std::span<const std::pair<const char*, std::vector<double> HackingMonitor::*>>
HackingMonitor::series() {
  static constexpr std::pair<const char*, std::vector<double> HackingMonitor::*> all[] = {
      {"proxy", &HackingMonitor::proxy_},
      {"gold", &HackingMonitor::gold_},
      {"kl", &HackingMonitor::kl_},
      {"length", &HackingMonitor::length_},
      {"refusals", &HackingMonitor::refusals_}};
  return all;
}

void HackingMonitor::save(StateDict& state) const {
  for (const auto& [name, values] : series()) state.strings[name] = joined(this->*values);
  state.integers["mismatches"] = mismatches_;
  state.integers["length_points"] = length_state_.points;
  state.integers["refusals_points"] = refusals_state_.points;
}

void HackingMonitor::load(const StateDict& state) {
  for (const auto& [name, values] : series()) this->*values = split(state.strings.at(name));
  mismatches_ = state.integers.at("mismatches");
  length_state_.points = state.integers.at("length_points");
  refusals_state_.points = state.integers.at("refusals_points");
}

}  // namespace meed
