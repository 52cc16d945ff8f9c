#include "algorithms/head_objective.h"

#include <ATen/ATen.h>

#include <cmath>

#include "algorithms/reward_rows.h"
#include "libpolicy/core/error.h"
#include "libreward/losses/bradley_terry.h"
#include "libreward/losses/demonstrations.h"
#include "libreward/losses/mixture.h"
#include "libreward/losses/preference_embedding.h"
#include "libreward/losses/regression.h"

namespace meed {
namespace {

at::Tensor selected(const at::Tensor& values, const at::Tensor& index) {
  return values.defined() ? values.index_select(0, index) : values;
}

HeadInput selected(const HeadInput& input, const at::Tensor& index) {
  return {selected(input.features_BD, index), selected(input.context_BD, index)};
}

/// Heads that have a loss of their own, of the same name.
bool is_own(const std::string& head) {
  return head == "mixture" || head == "preference_embedding" || head == "aspects";
}

/// The sign of an aspect's label.
double sign_of(const Example& example, const std::string& name) {
  const double label = number_of(example, name).value_or(0.0);
  return label > 0.0 ? 1.0 : label < 0.0 ? -1.0 : 0.0;
}

at::Tensor floats(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).to(at::kFloat);
}

}  // namespace

HeadBatch HeadBatch::select(const at::Tensor& index) const {
  HeadBatch part{.first = selected(first, index), .second = selected(second, index)};
  part.margins_B = selected(margins_B, index);
  part.strengths_B = selected(strengths_B, index);
  part.probabilities_B = selected(probabilities_B, index);
  part.labels_BK = selected(labels_BK, index);
  part.aspects_BJ = selected(aspects_BJ, index);
  if (criteria_2BC.defined()) part.criteria_2BC = criteria_2BC.index_select(1, index);
  if (lengths_2B.defined())
    part.lengths_2B = at::cat({selected(lengths_2B, index), selected(lengths_2B, index + size())});
  const auto* places = index.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < index.numel(); ++i)
    part.rows.push_back(rows[static_cast<size_t>(places[i])]);
  return part;
}

void HeadObjective::Config::fields(FieldVisitor& v) {
  v.choice(
      "loss_type", loss_type,
      {"auto", "bradley_terry", "margin", "scaled", "mixture", "router", "preference_embedding",
       "regression", "pair_and_regression", "aspects", "verifier", "adversarial"},
      "auto: what the head is made for. bradley_terry (the column margin, of either sign, is taken "
      "off the difference); margin and scaled: the column margin is the preference's strength, not "
      "negative (HelpSteer2-Preference); mixture and router: MiCRo's first and "
      "second stage; preference_embedding (GPM); regression on label_columns, or both on pairs; "
      "aspects (MJ-VIDEO): regression of criteria, pairs by aspect and overall; "
      "verifier: cross-entropy on the first label column; adversarial: chosen are "
      "demonstrations, rejected samples.");
  v.field("margin", margin, "Margin of rows that have none of their own.");
  v.field("label_smoothing", label_smoothing,
          "Probability that a preference is the wrong way round (bradley_terry).");
  v.field("center_rewards_coefficient", center_rewards_coefficient,
          "Weight of the mean squared sum of a pair's rewards (BaseReward's zero-mean term); null: "
          "none.");
  v.field("length_norm", length_norm,
          "In the loss, rewards are divided by the columns chosen_length and rejected_length and "
          "multiplied by this length; null: not.");
  v.field("gate_entropy_coef", gate_entropy_coef, "mixture: pull of the router to even gates.");
  v.field("router_tau", router_tau, "router: temperature of the targets.");
  v.field("regression_coef", regression_coef, "pair_and_regression: weight of the regression.");
  v.field("label_columns", label_columns,
          "regression, verifier: columns with the labels of the head's outputs, in order; an empty "
          "cell is a missing label. On pairs they are the chosen side's. aspects: names of the "
          "criteria, whose labels stand in chosen_NAME and rejected_NAME.");
  v.field("aspect_columns", aspect_columns,
          "aspects: columns that say which side is better in each aspect, in order: 1 the chosen, "
          "-1 the rejected, empty or 0 unknown. An evaluation reads them whatever the head.");
  v.require(label_smoothing >= 0 && label_smoothing < 0.5, "label_smoothing",
            "must be in [0, 0.5)");
  v.require(!center_rewards_coefficient || *center_rewards_coefficient >= 0,
            "center_rewards_coefficient", "must not be negative");
  v.require(!length_norm || *length_norm > 0, "length_norm", "must be positive, or null");
  v.require(gate_entropy_coef >= 0, "gate_entropy_coef", "must not be negative");
  v.require(router_tau > 0, "router_tau", "must be positive");
  v.require(regression_coef >= 0, "regression_coef", "must not be negative");
  v.require(!(loss_type == "regression" || loss_type == "pair_and_regression" ||
              loss_type == "verifier") ||
                !label_columns.empty(),
            "label_columns", "must name the columns of the labels");
}

HeadObjective::HeadObjective(const Config& config, const std::string& head_type)
    : config_(config), loss_type_(config.loss_type) {
  if (loss_type_ == "auto")
    loss_type_ = is_own(head_type)           ? head_type
                 : head_type == "attributes" ? "regression"
                                             : "bradley_terry";
  const std::string needed = loss_type_ == "router" ? "mixture" : loss_type_;
  if (is_own(needed) && needed != head_type)
    throw ConfigError("algorithm.loss_type: " + loss_type_ + " needs head: {type: " + needed + "}");
  if (loss_type_ == "regression" && config.label_columns.empty())
    throw ConfigError("algorithm.label_columns: regression needs the columns of the labels");
}

std::vector<double> HeadObjective::labels(const Example& example) const {
  std::vector<double> values;
  for (const auto& name : config_.label_columns) {
    auto value = number_of(example, name);
    if (name == "label" && example.label) value = *example.label ? 1.0 : 0.0;
    if (loss_type_ == "verifier" && values.empty() && (!value || *value < 0.0 || *value > 1.0))
      throw DataError("row " + std::to_string(example.row + 1) +
                      ": verifier needs a label in [0, 1] in \"" + name + "\"");
    values.push_back(value.value_or(kMissingLabel));
  }
  return values;
}

double HeadObjective::weight(const Example& example) const {
  if (loss_type_ != "regression") return 1.0;
  double count = 0.0;
  for (const double label : labels(example)) count += label != kMissingLabel;
  return count;
}

AspectTotals HeadObjective::count_aspects(const Example& example) const {
  AspectTotals totals;
  if (loss_type_ != "aspects") return totals;
  for (const auto& name : config_.label_columns)
    for (const char* side : {"chosen_", "rejected_"})
      totals.criteria += number_of(example, side + name).has_value();
  for (const auto& name : config_.aspect_columns) totals.aspects += sign_of(example, name) != 0.0;
  return totals;
}

void HeadObjective::read_aspects(ExampleRows rows, HeadBatch& batch) const {
  std::vector<double> criteria, aspects;
  for (const char* side : {"chosen_", "rejected_"})
    for (const auto& row : rows)
      for (const auto& name : config_.label_columns)
        criteria.push_back(number_of(*row, side + name).value_or(kMissingLabel));
  for (const auto& row : rows)
    for (const auto& name : config_.aspect_columns) aspects.push_back(sign_of(*row, name));
  if (!criteria.empty()) batch.criteria_2BC = floats(criteria).view({2, batch.size(), -1});
  if (!aspects.empty()) batch.aspects_BJ = floats(aspects).view({batch.size(), -1});
}

HeadBatch HeadObjective::batch(ExampleRows rows) const {
  HeadBatch batch;
  for (const auto& row : rows) batch.rows.push_back(row->row);
  std::vector<double> labels_BK, margins, lengths(2 * rows.size());
  if (!on_pairs() || loss_type_ == "pair_and_regression") {
    for (const auto& row : rows) {
      const auto values = labels(*row);
      labels_BK.insert(labels_BK.end(), values.begin(), values.end());
    }
    batch.labels_BK = floats(labels_BK).view({batch.size(), -1});
  }
  if (!on_pairs()) {
    batch.first = head_input(rows, "features");
    return batch;
  }
  if (loss_type_ == "aspects") read_aspects(rows, batch);
  batch.first = head_input(rows, "chosen_features");
  batch.second = head_input(rows, "rejected_features");
  if (rows[0]->vectors.count("context_features") == 0)
    batch.second.context_BD = batch.first.context_BD;
  const bool on_strengths = loss_type_ == "margin" || loss_type_ == "scaled";
  for (size_t i = 0; i < rows.size(); ++i) {
    margins.push_back(on_strengths ? preference_strength_of(*rows[i], config_.margin, loss_type_)
                                   : rows[i]->margin.value_or(config_.margin));
    if (!config_.length_norm) continue;
    for (const size_t side : {size_t{0}, size_t{1}}) {
      const char* name = side == 0 ? "chosen_length" : "rejected_length";
      const auto length = number_of(*rows[i], name);
      if (!length || *length <= 0)
        throw DataError("row " + std::to_string(rows[i]->row + 1) + ": length_norm needs \"" +
                        name + "\", a positive number");
      lengths[side * rows.size() + i] = *length;
    }
  }
  batch.margins_B = floats(margins);
  if (on_strengths) batch.strengths_B = batch.margins_B;
  if (config_.length_norm) batch.lengths_2B = floats(lengths);
  if (config_.label_smoothing > 0.0)
    batch.probabilities_B = at::full({batch.size()}, 1.0 - config_.label_smoothing);
  return batch;
}

LossOutput HeadObjective::loss(const RewardHead& head, const HeadBatch& batch, double total,
                               const AspectTotals& labels) const {
  auto first = head.forward(batch.first);
  if (!on_pairs()) return labelled_loss(first, batch, total);
  auto second = head.forward(batch.second);
  if (batch.lengths_2B.defined()) {
    const auto scale_2B = *config_.length_norm / batch.lengths_2B;
    first.rewards_B = first.rewards_B * scale_2B.narrow(0, 0, batch.size());
    second.rewards_B = second.rewards_B * scale_2B.narrow(0, batch.size(), batch.size());
  }
  return pair_loss(head, first, second, batch, total, labels);
}

LossOutput HeadObjective::labelled_loss(const HeadOutput& output, const HeadBatch& batch,
                                        double total) const {
  if (loss_type_ == "verifier")
    return verifier_loss(output.rewards_B, batch.labels_BK.select(1, 0), total);
  if (output.outputs_BK.size(1) != batch.labels_BK.size(1))
    throw ConfigError("algorithm.label_columns: names " + std::to_string(batch.labels_BK.size(1)) +
                      " columns, the head has " + std::to_string(output.outputs_BK.size(1)) +
                      " outputs");
  return attribute_regression_loss(output.outputs_BK, batch.labels_BK, total);
}

LossOutput HeadObjective::pair_loss(const RewardHead& head, const HeadOutput& chosen,
                                    const HeadOutput& rejected, const HeadBatch& batch,
                                    double num_pairs, const AspectTotals& totals) const {
  const double centring = config_.center_rewards_coefficient.value_or(0.0);
  const auto& [r_w, r_l] = std::pair{chosen.rewards_B, rejected.rewards_B};
  if (loss_type_ == "mixture")
    return mixture_loss(chosen.log_gates_BK, chosen.outputs_BK - rejected.outputs_BK,
                        config_.gate_entropy_coef, num_pairs);
  if (loss_type_ == "router") {
    const auto differences_BK = chosen.outputs_BK - rejected.outputs_BK;
    const auto target_BK =
        mixture_target(chosen.log_gates_BK, -at::log_sigmoid(differences_BK), config_.router_tau);
    auto output = router_loss(chosen.log_gates_BK, target_BK, num_pairs);
    output.metrics["accuracy"] = {
        (mixture_preference(chosen.log_gates_BK, differences_BK) > 0.5).sum().item<double>(),
        static_cast<double>(batch.size())};
    return output;
  }
  if (loss_type_ == "preference_embedding") {
    const auto logits_B = head.preference(chosen, rejected);
    LossOutput output{.loss = -at::log_sigmoid(logits_B).sum() / num_pairs, .metrics = {}};
    const auto count = static_cast<double>(batch.size());
    output.metrics["accuracy"] = {(logits_B > 0).sum().item<double>(), count};
    output.metrics["margin"] = {logits_B.detach().sum().item<double>(), count};
    return output;
  }
  if (loss_type_ == "aspects") {
    const auto criteria_2BC = at::stack({chosen.outputs_BK, rejected.outputs_BK});
    return aspect_loss(
        {.aspects_BJ = chosen.aspects_BJ, .overall_B = r_w},
        {.aspects_BJ = rejected.aspects_BJ, .overall_B = r_l}, criteria_2BC,
        batch.criteria_2BC.defined() ? batch.criteria_2BC
                                     : at::full_like(criteria_2BC.detach(), kMissingLabel),
        batch.aspects_BJ.defined() ? batch.aspects_BJ : at::zeros_like(chosen.aspects_BJ.detach()),
        num_pairs, totals);
  }
  if (loss_type_ == "adversarial") return adversarial_loss(r_w, r_l, num_pairs, num_pairs);
  if (loss_type_ == "margin" || loss_type_ == "scaled")
    return strength_loss(r_w, r_l, batch.strengths_B, loss_type_, num_pairs);
  auto output = batch.probabilities_B.defined()
                    ? soft_preference_loss(r_w, r_l, batch.probabilities_B, num_pairs)
                    : bradley_terry_loss(r_w, r_l, batch.margins_B, centring, num_pairs);
  if (batch.probabilities_B.defined() && centring > 0.0)
    output.loss = output.loss + centring * (r_w + r_l).square().sum() / num_pairs;
  if (loss_type_ == "pair_and_regression") {
    const auto labels = labelled_loss(chosen, batch, num_pairs);
    output.loss = output.loss + config_.regression_coef * labels.loss;
    merge(output.metrics, labels.metrics);
  }
  return output;
}

}  // namespace meed
