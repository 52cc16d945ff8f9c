#include "algorithms/reward_objective.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "libpolicy/core/error.h"
#include "libpolicy/distributed/communicator.h"
#include "libreward/losses/bradley_terry.h"
#include "libreward/losses/mixture.h"
#include "libreward/losses/process.h"
#include "libreward/losses/regression.h"

namespace meed {
namespace {

/// Brier score of P(chosen is better), and how much larger that is than how often it is so.
void note_calibration(const at::Tensor& logits_B, LossOutput& output) {
  const auto p_B = logits_B.detach().sigmoid().to(at::kDouble);
  const auto count = static_cast<double>(p_B.numel());
  const auto confidence_B = at::maximum(p_B, 1.0 - p_B);
  output.metrics["calibration/brier"] = {(1.0 - p_B).square().sum().item<double>(), count};
  output.metrics["calibration/overconfidence"] = {
      (confidence_B - (p_B > 0.5).to(at::kDouble)).sum().item<double>(), count};
}

at::Tensor labels_of(std::span<const EncodedRow> rows) {
  std::vector<float> labels;
  for (const auto& row : rows)
    for (const double value : row.labels) labels.push_back(static_cast<float>(value));
  return at::tensor(labels);
}

LossOutput regression(const at::Tensor& outputs_BK, std::span<const EncodedRow> rows,
                      double num_labels) {
  const auto labels = labels_of(rows);
  if (labels.numel() != outputs_BK.numel())
    throw ConfigError("algorithm.label_columns: the head has " +
                      std::to_string(outputs_BK.size(1)) + " outputs");
  return attribute_regression_loss(outputs_BK, labels.view(outputs_BK.sizes()), num_labels);
}

/// MJ-VIDEO's three terms, each by its own count over the step.
LossOutput aspects(const HeadOutput& chosen, const HeadOutput& rejected,
                   std::span<const EncodedRow> rows, double num_pairs, const LabelTotals& totals) {
  const int64_t B = chosen.rewards_B.size(0), C = chosen.outputs_BK.size(1),
                J = chosen.aspects_BJ.size(1);
  auto criteria_labels = at::full({2, B, C}, kMissingLabel), aspect_labels = at::zeros({B, J});
  for (int64_t b = 0; b < B; ++b) {
    const auto& labels = rows[static_cast<size_t>(b)].labels;
    const bool criteria = static_cast<int64_t>(labels.size()) >= 2 * C;
    for (int64_t i = 0; criteria && i < 2 * C; ++i)
      criteria_labels[i / C][b][i % C] = labels[static_cast<size_t>(i)];
    const auto first = criteria ? 2 * C : int64_t{0};
    for (int64_t j = 0; first + j < static_cast<int64_t>(labels.size()); ++j)
      if (const double label = labels[static_cast<size_t>(first + j)]; label != kMissingLabel)
        aspect_labels[b][j] = label > 0 ? 1.0 : label < 0 ? -1.0 : 0.0;
  }
  return aspect_loss({.aspects_BJ = chosen.aspects_BJ, .overall_B = chosen.rewards_B},
                     {.aspects_BJ = rejected.aspects_BJ, .overall_B = rejected.rewards_B},
                     at::stack({chosen.outputs_BK, rejected.outputs_BK}), criteria_labels,
                     aspect_labels, num_pairs,
                     {.aspects = totals.aspects, .criteria = totals.labels});
}

}  // namespace

void RewardObjective::fields(FieldVisitor& v) {
  v.choice(
      "loss_type", loss_type,
      {"auto", "bradley_terry", "margin", "scaled", "mixture", "preference_embedding", "regression",
       "pair_and_regression", "aspects", "verifier", "steps"},
      "auto: what the head is made for. bradley_terry (the column margin, of either sign, is taken "
      "off the difference); margin and scaled: the column margin is the preference's strength, not "
      "negative (HelpSteer2-Preference); mixture (MiCRo); "
      "preference_embedding (GPM); regression on label_columns; or both on pairs; aspects "
      "(MJ-VIDEO); verifier: binary cross-entropy of right and wrong completions (VerifyRM); "
      "steps: the same of each step.");
  v.field("center_rewards_coefficient", center_rewards_coefficient,
          "Weight of the mean squared sum of a pair's rewards, which centres them (Eisenstein "
          "et al. 2023); null: none.");
  v.field("margin", margin, "Margin of rows that have none of their own.");
  v.field("label_smoothing", label_smoothing,
          "Probability that a preference is the wrong way round (bradley_terry).");
  v.field("gate_entropy_coef", gate_entropy_coef, "mixture: pull of the router to even gates.");
  v.require(!center_rewards_coefficient || *center_rewards_coefficient >= 0,
            "center_rewards_coefficient", "must not be negative");
  v.require(label_smoothing >= 0 && label_smoothing < 0.5, "label_smoothing",
            "must be in [0, 0.5)");
  v.require(gate_entropy_coef >= 0, "gate_entropy_coef", "must not be negative");
}

void RewardObjective::resolve(const std::string& head, const std::string& pooling,
                              const std::vector<std::string>& label_columns) {
  const bool own_loss = head == "mixture" || head == "preference_embedding" || head == "aspects";
  if (loss_type == "auto")
    loss_type = pooling == "steps"     ? "steps"
                : own_loss             ? head
                : head == "attributes" ? "regression"
                                       : "bradley_terry";
  for (const char* name : {"mixture", "preference_embedding", "aspects"})
    if (loss_type == name && head != name)
      throw ConfigError("algorithm.loss_type: " + loss_type + " needs head: {type: " + loss_type +
                        "}");
  if ((loss_type == "steps") != (pooling == "steps"))
    throw ConfigError("algorithm.loss_type: steps and pooling: steps go together");
  if ((loss_type == "steps" || loss_type == "verifier") && (own_loss || head == "attributes"))
    throw ConfigError("algorithm.head: " + loss_type + " needs one output: linear or mlp");
  if (loss_type == "verifier" && label_columns.size() > 1)
    throw ConfigError("algorithm.label_columns: verifier takes one column, or none for \"label\"");
  if (loss_type.find("regression") != std::string::npos && label_columns.empty())
    throw ConfigError("algorithm.label_columns: " + loss_type + " needs the columns of the labels");
}

LabelTotals RewardObjective::count_labels(std::span<const EncodedRow> rows, size_t num_criteria,
                                          Communicator& comm) const {
  LabelTotals totals;
  const size_t first_aspect = loss_type == "aspects" ? 2 * num_criteria : SIZE_MAX;
  for (const auto& row : rows)
    for (size_t i = 0; i < row.labels.size(); ++i) {
      if (row.labels[i] == kMissingLabel) continue;
      if (i < first_aspect)
        totals.labels += 1.0;
      else
        totals.aspects += row.labels[i] != 0.0;
    }
  auto sums = at::tensor({totals.labels, totals.aspects}, at::kDouble);
  comm.all_reduce(sums, ReduceOp::kSum);
  return {.labels = sums[0].item<double>(), .aspects = sums[1].item<double>()};
}

LossOutput RewardObjective::pair_loss(const HeadOutput& chosen, const HeadOutput& rejected,
                                      const at::Tensor& logits_B, std::span<const EncodedRow> rows,
                                      double num_pairs, const LabelTotals& totals) const {
  std::vector<float> margins;
  for (const auto& row : rows) margins.push_back(static_cast<float>(row.margin.value_or(margin)));
  const auto margins_B = at::tensor(margins);
  const double centring = center_rewards_coefficient.value_or(0.0);
  const auto count = static_cast<double>(rows.size());
  LossOutput output;
  if (loss_type == "mixture") {
    output = mixture_loss(chosen.log_gates_BK, chosen.outputs_BK - rejected.outputs_BK,
                          gate_entropy_coef, num_pairs);
  } else if (loss_type == "aspects") {
    output = aspects(chosen, rejected, rows, num_pairs, totals);
  } else if (loss_type == "preference_embedding") {
    output = {.loss = -at::log_sigmoid(logits_B).sum() / num_pairs, .metrics = {}};
    output.metrics["accuracy"] = {(logits_B > 0).sum().item<double>(), count};
    output.metrics["margin"] = {logits_B.detach().sum().item<double>(), count};
  } else if (loss_type == "margin" || loss_type == "scaled") {
    output = strength_loss(chosen.rewards_B, rejected.rewards_B, margins_B, loss_type, num_pairs);
  } else if (label_smoothing > 0.0) {
    output = soft_preference_loss(chosen.rewards_B, rejected.rewards_B,
                                  at::full_like(chosen.rewards_B.detach(), 1.0 - label_smoothing),
                                  num_pairs);
    output.loss =
        output.loss + centring * (chosen.rewards_B + rejected.rewards_B).square().sum() / num_pairs;
  } else {
    output =
        bradley_terry_loss(chosen.rewards_B, rejected.rewards_B, margins_B, centring, num_pairs);
  }
  if (loss_type == "pair_and_regression" && totals.labels > 0)
    output.loss = output.loss + regression(chosen.outputs_BK, rows, totals.labels).loss;
  note_calibration(logits_B, output);
  return output;
}

LossOutput RewardObjective::row_loss(const HeadOutput& output, std::span<const EncodedRow> rows,
                                     double num_labels) const {
  if (loss_type == "regression") return regression(output.outputs_BK, rows, num_labels);
  const auto labels = labels_of(rows);
  if (labels.numel() == 0) return {.loss = output.rewards_B.sum() * 0.0, .metrics = {}};
  return step_loss(output.rewards_B, labels, num_labels);
}

}  // namespace meed
