#include "algorithms/pair_batch.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"
#include "libpolicy/models/token_logprobs.h"

namespace meed {

CompletionBatch::CompletionBatch(std::span<const EncodedRow> rows)
    : num_rows(static_cast<int64_t>(rows.size())) {
  const size_t sides = rows.empty() ? 0 : rows[0].completion_ids.size();
  PackedBatchBuilder builder;
  std::vector<int64_t> selected, sequence;
  std::vector<float> lengths(rows.size() * sides);
  for (size_t r = 0; r < rows.size(); ++r) {
    const int64_t prompt = builder.add(rows[r].prompt_ids);
    for (size_t side = 0; side < sides; ++side) {
      const int64_t first = builder.num_tokens();
      const auto& ids = rows[r].completion_ids[side];
      if (!ids.empty()) builder.add(ids, prompt);
      lengths[side * rows.size() + r] = static_cast<float>(ids.size());
      for (int64_t n = first; n < builder.num_tokens(); ++n) {
        selected.push_back(n);
        sequence.push_back(static_cast<int64_t>(side * rows.size() + r));
      }
    }
  }
  batch = builder.build();
  selected_M = at::tensor(selected, at::kLong);
  sequence_M = at::tensor(sequence, at::kLong);
  lengths_S = at::tensor(lengths);
}

at::Tensor pair_sums(CausalLm& model, const PairBatch& pairs, std::optional<double> ld_alpha) {
  return pair_logprob_sums(token_logprobs(model, pairs.batch, pairs.selected_M).logprobs_M,
                           pairs.sequence_M, pairs.num_rows, ld_alpha);
}

at::Tensor wpo_weights(CausalLm& model, const PairBatch& pairs, const at::Tensor& logprobs_M) {
  at::NoGradGuard no_grad;
  // At half the temperature log p is 2 log p - log sum of p^2, with the p of temperature 1.
  const auto sharp_M =
      token_logprobs(model, pairs.batch, pairs.selected_M, /*temperature=*/0.5).logprobs_M;
  const auto sums_2B =
      at::zeros({2 * pairs.num_rows}).index_add(0, pairs.sequence_M, sharp_M - logprobs_M.detach());
  const auto means_2B = sums_2B / pairs.lengths_S.clamp_min(1.0);
  return (pairs.chosen(means_2B) + pairs.rejected(means_2B)).exp();
}

PairLogprobs pair_logprobs(CausalLm& model, const PairBatch& pairs, std::optional<double> ld_alpha,
                           bool weighted) {
  const auto tokens = token_logprobs(model, pairs.batch, pairs.selected_M, /*temperature=*/1.0,
                                     /*with_entropy=*/true);
  const auto sums = [&](std::optional<double> alpha) {
    return pair_logprob_sums(tokens.logprobs_M, pairs.sequence_M, pairs.num_rows, alpha);
  };
  PairLogprobs result{.plain_2B = sums(std::nullopt)};
  result.sums_2B = ld_alpha ? sums(ld_alpha) : result.plain_2B;
  if (weighted) result.weights_B = wpo_weights(model, pairs, tokens.logprobs_M);
  const auto count = static_cast<double>(pairs.selected_M.numel());
  result.metrics["entropy"] = {tokens.entropy_M.sum().item<double>(), count};
  if (tokens.correct_M.defined())
    result.metrics["mean_token_accuracy"] = {tokens.correct_M.sum().item<double>(), count};
  return result;
}

TrainableModel PairAlgorithm::prepare(TrainingRun& run) {
  tokenizer_ = &run.tokenizer();
  policy_ = std::make_unique<Policy>(run.recipe(), run.seed());
  return policy_->trainable(run, moves_reference());
}

EncodedRow PairAlgorithm::encode(const Example& example) {
  auto row = encode_preference(*tokenizer_, example, name_);
  row.truncated = truncate(row, max_length_, keep_start_);
  if (row.prompt_ids.empty())
    throw DataError("row " + std::to_string(example.row + 1) + ": " + name_ +
                    " needs a prompt that chosen and rejected share");
  return row;
}

void require_dpo_options(FieldVisitor& v, const DpoOptions& loss, double dynamic_beta_w,
                         double dynamic_beta_k) {
  const auto& known = dpo_loss_types();
  for (const auto& type : loss.loss_type) {
    v.require(std::find(known.begin(), known.end(), type) != known.end(), "loss_type",
              "names \"" + type + "\", which is not one of the losses");
    v.require(type != "exo_pair" || loss.label_smoothing > 0, "label_smoothing",
              "must be above 0 for exo_pair");
  }
  v.require(!loss.loss_type.empty(), "loss_type", "must name a loss");
  v.require(loss.loss_weights.empty() || loss.loss_weights.size() == loss.loss_type.size(),
            "loss_weights", "must be as many as loss_type");
  v.require(loss.beta > 0, "beta", "must be positive");
  v.require(loss.label_smoothing >= 0 && loss.label_smoothing < 0.5, "label_smoothing",
            "must be in [0, 0.5)");
  v.require(dynamic_beta_w >= 0 && dynamic_beta_k > 0, "dynamic_beta_w",
            "must not be negative, and dynamic_beta_k must be positive");
}

}  // namespace meed
