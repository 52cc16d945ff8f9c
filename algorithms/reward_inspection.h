#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace meed {

class TrainingRun;

/// What an evaluation of a reward model saw of one preference pair.
struct InspectedPair {
  double logit = 0.0;  ///< log-odds that the chosen is better
  double chosen = 0.0, rejected = 0.0;
  int64_t chosen_tokens = 0, rejected_tokens = 0;
  double disagreement = -1.0;      ///< of an ensemble's members on the pair; below 0: no ensemble
  std::vector<double> gates = {};  ///< weights of a mixture's heads
  std::string group = "";
};

/// One bin of a reliability curve.
struct ReliabilityBin {
  double confidence = 0.0, accuracy = 0.0;  ///< means over the bin
  int64_t count = 0;
};
/// `num_bins` bins of equal width over confidence max(p, 1 - p) in [0.5, 1].
std::vector<ReliabilityBin> reliability(std::span<const InspectedPair> pairs, int num_bins = 10);
/// sum of |confidence - accuracy| by the bins' shares.
double expected_calibration_error(std::span<const ReliabilityBin> bins);
/// Quantile by linear interpolation; values need not be sorted, and there is at least one.
double quantile(std::vector<double> values, double q);

/// Gathers the pairs of all ranks; records eval_calibration/ece, eval_length_spearman, the
/// quantiles of both sides, accuracy by group, gate use and disagreement (docs/metrics.md); writes
/// a line of inspection.jsonl for the report. All ranks call it.
void record_inspection(TrainingRun& run, int64_t step, const std::vector<InspectedPair>& pairs,
                       const std::vector<std::string>& gate_names);

}  // namespace meed
