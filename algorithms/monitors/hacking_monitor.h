#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "libpolicy/checkpoint/state_dict.h"
#include "libpolicy/core/config.h"

namespace re2 {
class RE2;
}

namespace meed {

/// `monitors:` what is watched for signs that a policy games its reward (Alignment ceiling,
/// Lambert and Calandra 2023).
struct MonitorSection {
  std::string gold;
  int64_t window = 5, patience = 2, base_points = 5;
  double drift_sd = 3.0, drift_change = 0.2;
  std::string refusal_pattern =
      "(?i)\\b(I can't|I cannot|I can not|I'm sorry|I am sorry|as an AI)\\b";
  bool stop = false;
  void fields(FieldVisitor& v);
};

/// Means of one generation over all ranks.
struct MonitorPoint {
  double proxy = 0.0;          ///< the reward that is optimised
  std::optional<double> gold;  ///< the reward that is only watched
  double kl = 0.0;             ///< to the reference, where it is known
  double length = 0.0;         ///< tokens
  double refusals = 0.0;       ///< share
};

struct MonitorReport {
  std::optional<double> spearman;                  ///< of proxy and gold over the window
  std::optional<double> peak_gold;                 ///< largest so far
  double kl_at_peak = 0.0;                         ///< the over-optimisation point, once gold falls
  double length_drift = 0.0, refusal_drift = 0.0;  ///< see deviations_from
  std::vector<std::string> alarms;                 ///< new ones, in words
};

/// Alarms: gold and proxy disagree (Spearman below 0 over the window while the proxy rose in it) at
/// `patience` points in a row; length or refusals further than `drift_sd` deviations_from the first
/// `base_points` generations, and by at least `drift_change`, as many times. Each is raised once
/// until it is over. The window is 5 points: over the nine points of a gold reward that rises and
/// falls evenly the rank correlation is 0, so a window of ten would tell only when everything
/// gained is lost.
class HackingMonitor {
 public:
  explicit HackingMonitor(const MonitorSection& config);
  ~HackingMonitor();
  /// Whether the refusal pattern stands in a text.
  bool is_refusal(std::string_view text) const;
  MonitorReport add(const MonitorPoint& point);
  void save(StateDict& state) const;
  void load(const StateDict& state);

 private:
  void check_mismatch(MonitorReport& report);
  struct Drift {
    double least_change = 0.0;
    double unit = 0.0;  ///< what least_change is a share of, where that is more than the first mean
    int64_t points = 0;  ///< that were far, in a row
  };
  void check_drift(const char* what, std::span<const double> values, Drift& state, double& drift,
                   MonitorReport& report) const;
  /// The series that are kept from step to step, by name.
  static std::span<const std::pair<const char*, std::vector<double> HackingMonitor::*>> series();
  MonitorSection config_;
  Drift length_state_, refusals_state_;
  std::unique_ptr<re2::RE2> refusal_;
  std::vector<double> proxy_, gold_, kl_, length_, refusals_;
  int64_t mismatches_ = 0;
};

/// How far a value lies from `count` earlier ones of this mean and sample deviation, in deviations
/// of a normal distribution: the prediction's t = (value - mean) / (deviation sqrt(1 + 1/count))
/// has count - 1 degrees of freedom, and the normal deviate of the same tail follows by Wallace
/// 1959, z = (8 df + 1) / (8 df + 3) sqrt(df ln(1 + t^2 / df)). Five equal-looking points leave t
/// = 6.6 where a known spread has 3.
double deviations_from(double mean, double deviation, size_t count, double value);

}  // namespace meed
