#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "algorithms/head_batch.h"
#include "libpolicy/core/config.h"
#include "libpolicy/losses/loss_output.h"
#include "libreward/losses/mixture.h"
#include "libreward/models/reward_head.h"

namespace meed {

class Communicator;

/// Rows of one step as a head and its loss read them; the second side is there on pairs only.
struct HeadBatch {
  HeadInput first, second;
  at::Tensor margins_B;        ///< label or adaptive margin; undefined where the loss reads none
  at::Tensor strengths_B;      ///< margin, scaled: the label's strength; undefined otherwise
  at::Tensor probabilities_B;  ///< P(the first is better); undefined: 1
  at::Tensor lengths_2B;       ///< of first, then second; undefined without length_norm
  at::Tensor labels_BK;        ///< kMissingLabel where there is none
  at::Tensor criteria_2BC;     ///< aspects: labels of the first, then the second; kMissingLabel
  at::Tensor aspects_BJ;       ///< aspects: 1 the first is better, -1 the second, 0 not known
  std::vector<int64_t> rows;   ///< place in the data, for draws by row
  int64_t size() const { return static_cast<int64_t>(rows.size()); }
  /// The rows at `index`, which may repeat.
  HeadBatch select(const at::Tensor& index) const;
};

/// The losses that reward_head knows, with the keys that they share. Stateless.
class HeadObjective {
 public:
  struct Config {
    std::string loss_type = "auto";
    double margin = 0.0, label_smoothing = 0.0;
    std::optional<double> center_rewards_coefficient;
    std::optional<double> length_norm;
    double gate_entropy_coef = 0.5, router_tau = 0.5, regression_coef = 1.0;
    std::vector<std::string> label_columns, aspect_columns;
    void fields(FieldVisitor& v);
  };
  /// Throws ConfigError where loss and head do not go together.
  HeadObjective(const Config& config, const std::string& head_type);

  const std::string& loss_type() const { return loss_type_; }
  const std::vector<std::string>& label_columns() const { return config_.label_columns; }
  const std::vector<std::string>& aspect_columns() const { return config_.aspect_columns; }
  /// Whether a row is a pair, chosen and rejected, rather than one labelled text.
  bool on_pairs() const { return loss_type_ != "regression" && loss_type_ != "verifier"; }
  /// Reads the columns that the loss needs. Throws DataError naming row and column.
  HeadBatch batch(ExampleRows rows) const;
  /// Of a row's labels, how many there are; 1 for a pair.
  double weight(const Example& example) const;
  /// Labels of criteria and aspects of a row.
  AspectTotals count_aspects(const Example& example) const;
  /// Loss of one head, divided by `total` of the whole step, and by `labels` where it has terms of
  /// their own for them.
  LossOutput loss(const RewardHead& head, const HeadBatch& batch, double total,
                  const AspectTotals& labels = {}) const;

 private:
  LossOutput pair_loss(const RewardHead& head, const HeadOutput& chosen, const HeadOutput& rejected,
                       const HeadBatch& batch, double num_pairs, const AspectTotals& labels) const;
  LossOutput labelled_loss(const HeadOutput& output, const HeadBatch& batch, double total) const;
  std::vector<double> labels(const Example& example) const;
  void read_aspects(ExampleRows rows, HeadBatch& batch) const;
  Config config_;
  std::string loss_type_;
};

}  // namespace meed
