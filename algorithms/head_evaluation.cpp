#include "algorithms/head_evaluation.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>

#include "libpolicy/core/error.h"
#include "libpolicy/core/ranking.h"
#include "libreward/losses/regression.h"

namespace meed {
namespace {

constexpr int64_t kRowsAtATime = 4096;
using Rows = std::vector<std::shared_ptr<const VectorExample>>;

std::vector<double> numbers(const at::Tensor& values) {
  const auto flat = values.to(at::kDouble).contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

double share(const at::Tensor& flags) { return flags.to(at::kDouble).mean().item<double>(); }

/// A column of numbers; empty where the first row has none.
std::vector<double> column(const Rows& rows, const std::string& name) {
  std::vector<double> values;
  if (!number_of(*rows[0], name)) return values;
  for (const auto& row : rows) {
    const auto value = number_of(*row, name);
    if (!value)
      throw DataError("row " + std::to_string(row->row + 1) + ": column \"" + name +
                      "\" is missing");
    values.push_back(*value);
  }
  return values;
}

/// Heads on all rows, a few thousand at a time.
struct Scores {
  at::Tensor rewards_MN;      ///< of each member
  at::Tensor outputs_NK;      ///< of the first member
  at::Tensor gates_NK;        ///< of a mixture; undefined otherwise
  at::Tensor logits_N;        ///< pairs: log-odds that the first is better
  at::Tensor differences_NK;  ///< pairs: first member's outputs
  at::Tensor second_MN;
  at::Tensor aspects_NJ;  ///< pairs: differences of first member's aspects; undefined: none
};

Scores score(const FeatureHeads& heads, const Rows& rows, bool pairs) {
  std::vector<at::Tensor> rewards, second, outputs, gates, logits, differences, aspects;
  for (size_t first = 0; first < rows.size(); first += kRowsAtATime) {
    const auto part =
        ExampleRows(rows).subspan(first, std::min<size_t>(kRowsAtATime, rows.size() - first));
    auto input = head_input(part, pairs ? "chosen_features" : "features");
    rewards.push_back(heads.member_rewards(input));
    const auto output = heads.member(0).forward(input);
    outputs.push_back(output.outputs_BK);
    if (output.log_gates_BK.defined()) gates.push_back(output.log_gates_BK.exp());
    if (!pairs) continue;
    auto other = head_input(part, "rejected_features");
    if (part[0]->vectors.count("context_features") == 0) other.context_BD = input.context_BD;
    second.push_back(heads.member_rewards(other));
    const auto output_of_other = heads.member(0).forward(other);
    differences.push_back(output.outputs_BK - output_of_other.outputs_BK);
    if (output.aspects_BJ.defined())
      aspects.push_back(output.aspects_BJ - output_of_other.aspects_BJ);
    logits.push_back(heads.preference(input, other));
  }
  const auto joined = [](const std::vector<at::Tensor>& parts, int64_t dim) {
    return parts.empty() ? at::Tensor() : at::cat(parts, dim);
  };
  return {joined(rewards, 1),     joined(outputs, 0), joined(gates, 0),  joined(logits, 0),
          joined(differences, 0), joined(second, 1),  joined(aspects, 0)};
}

/// Confidence and accuracy by confidence: five bins from a half to 1.
void note_reliability(const at::Tensor& logits_N, MetricsWriter& writer) {
  constexpr size_t kBins = 5;
  std::array<double, kBins> count{}, right{}, confidence{};
  for (const double logit : numbers(logits_N)) {
    const double p = 1.0 / (1.0 + std::exp(-std::abs(logit)));
    const auto bin = std::min(kBins - 1, static_cast<size_t>((p - 0.5) * 2.0 * kBins));
    count[bin] += 1.0;
    right[bin] += logit > 0;
    confidence[bin] += p;
  }
  const double total = std::accumulate(count.begin(), count.end(), 0.0);
  double error = 0.0;
  for (size_t bin = 0; bin < kBins; ++bin) {
    if (count[bin] == 0.0) continue;
    error += std::abs(confidence[bin] - right[bin]) / total;
    const auto name = "eval_calibration/bin_" + std::to_string(bin);
    writer.record(name + "_accuracy", right[bin] / count[bin]);
    writer.record(name + "_confidence", confidence[bin] / count[bin]);
    writer.record(name + "_share", count[bin] / total);
  }
  writer.record("eval_calibration/ece", error);
}

/// Accuracy of each cluster of rows; of a mixture, its best head there.
void note_clusters(const Rows& rows, const Scores& scores, MetricsWriter& writer) {
  std::map<std::string, std::vector<int64_t>> clusters;
  for (size_t i = 0; i < rows.size(); ++i)
    if (const auto found = rows[i]->extra.find("cluster"); found != rows[i]->extra.end())
      clusters[found->second].push_back(static_cast<int64_t>(i));
  if (clusters.empty()) return;
  double best_heads = 0.0;
  for (const auto& [name, places] : clusters) {
    const auto index = at::tensor(places, at::kLong);
    writer.record("eval_accuracy/cluster_" + name,
                  share(scores.logits_N.index_select(0, index) > 0));
    const auto by_head = (scores.differences_NK.index_select(0, index) > 0).to(at::kDouble).mean(0);
    best_heads += by_head.max().item<double>() / static_cast<double>(clusters.size());
  }
  if (scores.gates_NK.defined()) writer.record("eval_best_head_accuracy", best_heads);
}

/// Are the pairs that score low those whose labels were flipped on purpose?
void note_flips(const Rows& rows, const at::Tensor& logits_N, MetricsWriter& writer) {
  const auto flipped = column(rows, "flipped");
  if (flipped.empty()) return;
  const auto logits = numbers(logits_N);
  std::vector<bool> clean;
  double suspects = 0.0, true_suspects = 0.0, flips = 0.0;
  for (size_t i = 0; i < logits.size(); ++i) {
    clean.push_back(flipped[i] < 0.5);
    flips += !clean.back();
    suspects += logits[i] < 0;
    true_suspects += logits[i] < 0 && !clean.back();
  }
  if (flips == 0.0) return;
  writer.record("eval_flips/auc", area_under_curve(logits, clean));
  if (suspects > 0.0) writer.record("eval_flips/precision", true_suspects / suspects);
  writer.record("eval_flips/recall", true_suspects / flips);
}

void note_lengths(const Rows& rows, const std::vector<double>& first,
                  const std::vector<double>& second, MetricsWriter& writer) {
  auto lengths = column(rows, "chosen_length");
  const auto rejected = column(rows, "rejected_length");
  if (lengths.empty() || rejected.empty()) return;
  lengths.insert(lengths.end(), rejected.begin(), rejected.end());
  auto rewards = first;
  rewards.insert(rewards.end(), second.begin(), second.end());
  writer.record("eval_length_spearman", rank_correlation(rewards, lengths));
}

/// How often each aspect's difference (the reward's, of a head without aspects) has the sign of its
/// label; and how often the largest gate is that of the aspect named in the column `aspect`.
void note_aspects(const FeatureHeads& heads, const Rows& rows, const HeadObjective& objective,
                  const Scores& scores, MetricsWriter& writer) {
  double right = 0.0, count = 0.0;
  const auto& columns = objective.aspect_columns();
  for (size_t j = 0; j < columns.size(); ++j) {
    const auto values =
        numbers(scores.aspects_NJ.defined() ? scores.aspects_NJ.select(1, static_cast<int64_t>(j))
                                            : scores.logits_N);
    for (size_t i = 0; i < rows.size(); ++i) {
      const double label = number_of(*rows[i], columns[j]).value_or(0.0);
      count += label != 0.0;
      right += label * values[i] > 0.0;
    }
  }
  if (count > 0.0) writer.record("eval_aspect_accuracy", right / count);
  const auto names = heads.member(0).gate_names();
  if (!scores.gates_NK.defined() || rows[0]->extra.count("aspect") == 0) return;
  const auto largest = numbers(scores.gates_NK.argmax(/*dim=*/1));
  double agreed = 0.0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto found = rows[i]->extra.find("aspect");
    agreed +=
        found != rows[i]->extra.end() && names[static_cast<size_t>(largest[i])] == found->second;
  }
  writer.record("eval_gate_accuracy", agreed / static_cast<double>(rows.size()));
}

void note_pairs(const FeatureHeads& heads, const Rows& rows, const HeadObjective& objective,
                MetricsWriter& writer) {
  const auto scores = score(heads, rows, /*pairs=*/true);
  writer.record("eval_accuracy", share(scores.logits_N > 0));
  writer.record("eval_margin", scores.logits_N.to(at::kDouble).mean().item<double>());
  note_reliability(scores.logits_N, writer);
  note_clusters(rows, scores, writer);
  note_flips(rows, scores.logits_N, writer);
  note_aspects(heads, rows, objective, scores, writer);
  const auto first = numbers(heads.aggregated(scores.rewards_MN));
  const auto second = numbers(heads.aggregated(scores.second_MN));
  note_lengths(rows, first, second, writer);
  for (const auto& [name, values] :
       {std::pair{"eval_chosen_reward", &first}, {"eval_rejected_reward", &second}})
    writer.record(name, std::accumulate(values->begin(), values->end(), 0.0) /
                            static_cast<double>(values->size()));
  if (scores.gates_NK.defined())
    for (int64_t k = 0; k < scores.gates_NK.size(1); ++k)
      writer.record("eval_gate_use/" + std::to_string(k),
                    scores.gates_NK.select(1, k).to(at::kDouble).mean().item<double>());
  if (heads.size() == 1) return;
  const auto differences_MN = (scores.rewards_MN - scores.second_MN).to(at::kDouble);
  const auto by_member = (differences_MN > 0).to(at::kDouble).mean(/*dim=*/1);
  writer.record("eval_member_accuracy/mean", by_member.mean().item<double>());
  writer.record("eval_member_accuracy/max", by_member.max().item<double>());
  writer.record("eval_member_accuracy/min", by_member.min().item<double>());
  writer.record("eval_disagreement",
                differences_MN.std(/*dim=*/0, /*unbiased=*/false).mean().item<double>());
}

/// 1 - squared error / variance, over the labels that are there.
double r_squared(const std::vector<double>& predictions, const std::vector<double>& labels) {
  double mean = 0.0, count = 0.0, error = 0.0, total = 0.0;
  for (const double label : labels)
    if (label != kMissingLabel) mean += label, count += 1.0;
  mean /= std::max(1.0, count);
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] == kMissingLabel) continue;
    error += (predictions[i] - labels[i]) * (predictions[i] - labels[i]);
    total += (labels[i] - mean) * (labels[i] - mean);
  }
  return total > 0.0 ? 1.0 - error / total : std::nan("");
}

/// How often values order rows i and i + n/2 as `gold` does.
double pair_accuracy(const std::vector<double>& values, const std::vector<double>& gold) {
  const size_t half = values.size() / 2;
  double right = 0.0, count = 0.0;
  for (size_t i = 0; i < half; ++i) {
    const double d = gold[i] - gold[i + half];
    if (d == 0.0) continue;
    count += 1.0;
    right += (values[i] - values[i + half]) * d > 0.0;
  }
  return count > 0.0 ? right / count : std::nan("");
}

void note_flagged(const Rows& rows, const std::vector<double>& rewards, MetricsWriter& writer) {
  const auto flagged = column(rows, "flagged");
  if (flagged.empty()) return;
  std::vector<size_t> order(rewards.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return rewards[a] < rewards[b]; });
  const auto lowest = static_cast<size_t>(0.15 * static_cast<double>(order.size()));
  double found = 0.0;
  for (size_t i = 0; i < lowest; ++i) found += flagged[order[i]];
  const double all = std::accumulate(flagged.begin(), flagged.end(), 0.0);
  if (all > 0.0) writer.record("eval_flagged_in_lowest_15", found / all);
}

void note_labelled(const FeatureHeads& heads, const Rows& rows, const HeadObjective& objective,
                   MetricsWriter& writer) {
  const auto scores = score(heads, rows, /*pairs=*/false);
  const auto rewards = numbers(heads.aggregated(scores.rewards_MN));
  note_flagged(rows, rewards, writer);
  const auto& names = objective.label_columns();
  if (objective.loss_type() == "verifier" && !names.empty()) {
    const auto batch = objective.batch(rows);
    const auto right =
        (batch.labels_BK.select(1, 0) > 0.5) == (at::tensor(rewards, at::kDouble) > 0.0);
    writer.record("eval_accuracy", share(right));
  } else if (static_cast<int64_t>(names.size()) == scores.outputs_NK.size(1)) {
    double least = 1.0;
    const auto batch = objective.batch(rows);
    for (size_t k = 0; k < names.size(); ++k) {
      const auto place = static_cast<int64_t>(k);
      const double r2 = r_squared(numbers(scores.outputs_NK.select(1, place)),
                                  numbers(batch.labels_BK.select(1, place)));
      writer.record("eval_r2/" + names[k], r2);
      least = std::min(least, r2);
    }
    writer.record("eval_r2_min", least);
  }
  const auto gold = column(rows, "gold");
  if (gold.empty()) return;
  writer.record("eval_pair_accuracy", pair_accuracy(rewards, gold));
  writer.record("eval_gold_spearman", rank_correlation(rewards, gold));
  double best = 0.0;
  for (int64_t k = 0; k < scores.outputs_NK.size(1); ++k) {
    const double own = pair_accuracy(numbers(scores.outputs_NK.select(1, k)), gold);
    best = std::max({best, own, 1.0 - own});
  }
  writer.record("eval_best_output_pair_accuracy", best);
}

/// Best of N among the first N candidates of each row, N = 1, 2, 4, ...: gold of the pick as a
/// share of the way from the row's worst candidate to its best.
void note_candidates(const FeatureHeads& heads, const Rows& rows, MetricsWriter& writer) {
  std::map<size_t, double> gold_of;
  double gap = 0.0, agree = 0.0, member_gold = 0.0;
  for (const auto& row : rows) {
    const auto members_MN = heads.member_rewards(candidate_input(*row, heads.num_features()));
    const auto centred_MN =
        (members_MN - members_MN.mean(/*dim=*/1, /*keepdim=*/true)).to(at::kDouble);
    const auto rewards = numbers(heads.aggregated(centred_MN));
    const auto n = static_cast<double>(rewards.size());
    auto sorted = rewards;
    std::sort(sorted.begin(), sorted.end());
    for (size_t i = 0; i < sorted.size(); ++i)  // sum over pairs of |r_i - r_j|
      gap += (2.0 * static_cast<double>(i) - n + 1.0) * sorted[i] / std::max(1.0, n * (n - 1) / 2);
    const auto picks_M = centred_MN.argmax(/*dim=*/1);
    agree += share(picks_M == picks_M[0]);
    const auto gold = numbers_of(*row, "candidate_gold");
    if (gold.empty()) continue;
    if (gold.size() != rewards.size())
      throw DataError("row " + std::to_string(row->row + 1) + ": \"candidate_gold\" has " +
                      std::to_string(gold.size()) + " numbers, there are " +
                      std::to_string(rewards.size()) + " candidates");
    const auto [low, high] = std::minmax_element(gold.begin(), gold.end());
    const double range = std::max(*high - *low, 1e-12);
    for (const double pick : numbers(picks_M))
      member_gold +=
          (gold[static_cast<size_t>(pick)] - *low) / range / static_cast<double>(heads.size());
    for (size_t N = 1; N <= rewards.size(); N *= 2) {
      const auto pick =
          std::max_element(rewards.begin(), rewards.begin() + static_cast<int64_t>(N));
      gold_of[N] += (gold[static_cast<size_t>(pick - rewards.begin())] - *low) / range;
    }
  }
  const auto count = static_cast<double>(rows.size());
  writer.record("eval_response_gap", gap / count);
  if (heads.size() > 1) writer.record("eval_top_pick_agreement", agree / count);
  if (gold_of.empty()) return;
  double peak = 0.0;
  for (const auto& [N, sum] : gold_of) {
    writer.record("eval_best_of/" + std::to_string(N), sum / count);
    peak = std::max(peak, sum / count);
  }
  writer.record("eval_member_best_of_all", member_gold / count);
  writer.record("eval_best_of_drop", peak - gold_of.rbegin()->second / count);
}

}  // namespace

void evaluate_heads(const FeatureHeads& heads, const Dataset& data, const HeadObjective& objective,
                    MetricsWriter& writer) {
  const at::NoGradGuard no_grad;
  Rows rows;
  for (int64_t i = 0; i < data.size(); ++i) rows.push_back(read_vectors(data.get(i)));
  const auto& vectors = rows.at(0)->vectors;
  if (vectors.count("chosen_features") > 0) note_pairs(heads, rows, objective, writer);
  if (vectors.count("features") > 0) note_labelled(heads, rows, objective, writer);
  if (vectors.count("candidate_features") > 0) note_candidates(heads, rows, writer);
}

}  // namespace meed
