#pragma once

#include <optional>

#include "libpolicy/checkpoint/state_dict.h"
#include "libpolicy/core/config.h"

namespace meed {

class Communicator;
class MetricsWriter;
struct PolicyBatch;

/// TRL's keys for an entropy bonus that adapts (Skywork-OR1, He et al. 2025): after each update the
/// coefficient rises by entropy_coef_delta where the entropy was at or below entropy_target and
/// falls otherwise, and it applies only where the last update's entropy was not above the target
/// (not before the first).
struct EntropyControl {
  bool use_adaptive_entropy = false;
  double entropy_coef_min = 0.0, entropy_coef_max = 1.0, entropy_coef_delta = 0.005;
  double entropy_target = 0.2;
  void fields(FieldVisitor& v);
};

/// An entropy bonus's coefficient as it is adapted.
class EntropyCoefficient {
 public:
  EntropyCoefficient(const EntropyControl& config, double coefficient)
      : config_(config), coefficient_(coefficient) {}
  /// What the next update's loss uses.
  double value() const;
  /// Counts a micro-batch's entropy: of the tokens that count and that the entropy mask keeps.
  void add(const PolicyBatch& batch);
  /// Adapts; records entropy_coef where there is a bonus. All ranks call it.
  void end_update(Communicator& comm, MetricsWriter& metrics);
  void save(StateDict& state) const;
  void load(const StateDict& state);

 private:
  EntropyControl config_;
  double coefficient_;
  std::optional<double> last_entropy_;  ///< of the last update; none before the first
  double sum_ = 0.0, count_ = 0.0;      ///< of this update on this rank
};

}  // namespace meed
