#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "algorithms/offline_trainer.h"
#include "libpolicy/core/config.h"
#include "libreward/models/reward_head.h"

namespace meed {

class Communicator;

/// Labels of a step over all ranks.
struct LabelTotals {
  double labels = 0.0;   ///< of attributes or criteria
  double aspects = 0.0;  ///< of aspects
};

/// What a reward model is trained to do: the keys of reward_modelling that choose and shape the
/// loss.
struct RewardObjective {
  std::string loss_type = "auto";
  std::optional<double> center_rewards_coefficient;
  double margin = 0.0, label_smoothing = 0.0, gate_entropy_coef = 0.5;
  void fields(FieldVisitor& v);
  /// Puts the loss that belongs to a head and a pooling in place of "auto". Throws ConfigError
  /// where they do not go together.
  void resolve(const std::string& head, const std::string& pooling,
               const std::vector<std::string>& label_columns);

  /// The column margin is the strength of a preference.
  bool on_strengths() const { return loss_type == "margin" || loss_type == "scaled"; }
  bool on_steps() const { return loss_type == "steps"; }
  /// Rows are preference pairs, not labelled completions.
  bool on_pairs() const {
    return loss_type != "regression" && loss_type != "verifier" && loss_type != "steps";
  }
  /// Labels of this rank's rows, summed over ranks; the first 2 `num_criteria` of an aspects row
  /// are of criteria. A collective.
  LabelTotals count_labels(std::span<const EncodedRow> rows, size_t num_criteria,
                           Communicator& comm) const;

  LossOutput pair_loss(const HeadOutput& chosen, const HeadOutput& rejected,
                       const at::Tensor& logits_B, std::span<const EncodedRow> rows,
                       double num_pairs, const LabelTotals& totals) const;
  LossOutput row_loss(const HeadOutput& output, std::span<const EncodedRow> rows,
                      double num_labels) const;
};

}  // namespace meed
