#include "algorithms/policy_updater.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <set>

#include "algorithms/training_run.h"
#include "libpolicy/text/chat_template.h"

namespace meed {
namespace {

/// Gives each completion its part of the values of a micro-batch's tokens.
void assign(std::span<CompletionTokens> batch, at::Tensor CompletionTokens::*member,
            const at::Tensor& values_M, const std::vector<int64_t>& lengths) {
  const auto parts = values_M.split_with_sizes(lengths);
  for (size_t i = 0; i < batch.size(); ++i) batch[i].*member = parts[i];
}

/// The values of all items end to end; undefined where no item has any.
at::Tensor gathered(std::span<const CompletionTokens> items, at::Tensor CompletionTokens::*member) {
  std::vector<at::Tensor> parts;
  for (const auto& item : items)
    if ((item.*member).defined()) parts.push_back(item.*member);
  return parts.empty() ? at::Tensor() : at::cat(parts);
}

}  // namespace

PolicyUpdater::PolicyUpdater(TrainingRun& run, OnlineAlgorithm& algorithm, Policy& policy,
                             int64_t num_shares, int64_t num_updates)
    : run_(run),
      algorithm_(algorithm),
      policy_(policy),
      recipe_(run.recipe()),
      num_shares_(num_shares),
      num_updates_(num_updates) {}

void PolicyUpdater::begin(const ScoredRollouts& scored, const at::Tensor& advantages_PG) {
  scored_ = &scored;
  advantages_PG_ = advantages_PG;
  make_items();
  if (!recipe_.rollout.replay.empty())
    take_stored_logprobs();
  else if (needs_old_logprobs())
    compute_old_logprobs();
  if (algorithm_.needs_reference()) compute_ref_logprobs();
  if (algorithm_.by_token()) {
    compute_values();
    algorithm_.token_advantages(scored, items_, run_.comm(), run_.recorder());
  }
  entropy_threshold_ = entropy_threshold();
}

void PolicyUpdater::update(Learner& learner, int64_t share, bool first) {
  // A share is an interval of places, so that an update has the same prompts on any number of
  // processes.
  std::vector<CompletionTokens> mine;
  for (const auto& item : items_)
    if (scored_->places[item.group] * num_shares_ / scored_->num_groups == share)
      mine.push_back(item);
  if (algorithm_.needs_current_logprobs()) compute_current_logprobs(mine);
  algorithm_.begin_update(*scored_, mine, run_.comm());
  const auto totals = totals_of(mine);
  const size_t num_learning = learning_first(mine);
  int64_t tokens = 0;
  const auto accumulate = [&](std::span<CompletionTokens> items) {
    for (const auto& batch : micro_batches(items)) {
      const auto packed = pack(batch);
      learner.accumulate(loss(batch, packed, totals, first));
      tokens += packed.batch.num_tokens();
    }
  };
  accumulate(std::span(mine).first(num_learning));
  {
    const at::NoGradGuard no_grad;
    accumulate(std::span(mine).subspan(num_learning));
  }
  learner.update();
  algorithm_.end_update(run_.comm(), run_.recorder());
  run_.record_tokens(tokens);
}

void PolicyUpdater::make_items() {
  items_.clear();
  const auto participants_PG = algorithm_.participants(*scored_);
  for (size_t p = 0; p < scored_->groups.size(); ++p)
    for (size_t g = 0; g < scored_->groups[p].completions.size(); ++g) {
      const auto& completion = scored_->groups[p].completions[g];
      const bool takes_part =
          !participants_PG.defined() ||
          participants_PG[static_cast<int64_t>(p)][static_cast<int64_t>(g)].item<bool>();
      if (!completion.token_ids.empty() && takes_part)
        items_.push_back({.group = p, .index = g, .mask_T = token_mask(completion)});
    }
}

/// Runs of items within the token budget; a group's prompt counts once in each.
std::vector<std::span<CompletionTokens>> PolicyUpdater::micro_batches(
    std::span<CompletionTokens> items) const {
  const int64_t budget = recipe_.optim.max_tokens_per_micro_batch;
  std::vector<std::span<CompletionTokens>> batches;
  size_t first = 0;
  int64_t tokens = 0;
  for (size_t i = 0; i < items.size();) {
    // The next unit that may not be parted: a completion, or the rest of its group.
    size_t end = i + 1;
    while (algorithm_.keeps_groups_whole() && end < items.size() &&
           items[end].group == items[i].group)
      ++end;
    const auto& group = scored_->groups[items[i].group];
    const auto prompt = static_cast<int64_t>(group.prompt_ids.size());
    int64_t length = 0;
    for (size_t k = i; k < end; ++k)
      length += static_cast<int64_t>(group.completions[items[k].index].token_ids.size());
    const bool new_group = i == first || items[i].group != items[i - 1].group;
    if (i > first && tokens + length + (new_group ? prompt : 0) > budget) {
      batches.push_back(items.subspan(first, i - first));
      first = i;
      tokens = prompt;
    } else if (new_group) {
      tokens += prompt;
    }
    tokens += length;
    i = end;
  }
  if (first < items.size()) batches.push_back(items.subspan(first));
  return batches;
}

PolicyUpdater::Packed PolicyUpdater::pack(std::span<const CompletionTokens> items,
                                          bool reference) const {
  PackedBatchBuilder builder;
  std::vector<int64_t> selected, completion, groups;
  Packed packed;
  int64_t prompt = -1, num_groups = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const auto& group = scored_->groups[items[i].group];
    if (i == 0 || items[i].group != items[i - 1].group) {
      const auto other = reference ? algorithm_.reference_prompt(group.example) : std::nullopt;
      prompt = builder.add(other ? encode_prompt(run_.tokenizer(), *other) : group.prompt_ids);
      ++num_groups;
    }
    groups.push_back(num_groups - 1);
    const auto& ids = group.completions[items[i].index].token_ids;
    const int64_t first = builder.num_tokens();
    builder.add(ids, prompt);
    for (int64_t n = first; n < builder.num_tokens(); ++n) {
      selected.push_back(n);
      completion.push_back(static_cast<int64_t>(i));
    }
    packed.lengths.push_back(static_cast<int64_t>(ids.size()));
  }
  packed.batch = builder.build();
  packed.selected_M = at::tensor(selected, at::kLong);
  packed.completion_M = at::tensor(completion, at::kLong);
  packed.group_C = at::tensor(groups, at::kLong);
  return packed;
}

/// 1 on the tokens that count: sampled by the policy, in a completion that is not masked.
at::Tensor PolicyUpdater::token_mask(const Completion& completion) const {
  const auto length = static_cast<int64_t>(completion.token_ids.size());
  if (algorithm_.mask_truncated_completions() && completion.finish_reason == FinishReason::kLength)
    return at::zeros({length});
  if (completion.loss_mask.empty()) return at::ones({length});
  return at::tensor(std::vector<float>(completion.loss_mask.begin(), completion.loss_mask.end()));
}

bool PolicyUpdater::needs_old_logprobs() const {
  return num_updates_ > 1 || algorithm_.needs_old_logprobs() ||
         (algorithm_.by_token() && algorithm_.needs_reference()) ||
         algorithm_.top_entropy_quantile() < 1.0;
}

TokenLogprobs PolicyUpdater::without_gradient(CausalLm& model, const Packed& packed,
                                              bool entropy) const {
  at::NoGradGuard no_grad;
  return token_logprobs(model, packed.batch, packed.selected_M, recipe_.rollout.temperature,
                        entropy);
}

void PolicyUpdater::compute_old_logprobs() {
  const bool entropy = algorithm_.top_entropy_quantile() < 1.0;
  for (const auto& batch : micro_batches(items_)) {
    const auto packed = pack(batch);
    const auto tokens = without_gradient(policy_.model(), packed, entropy);
    assign(batch, &CompletionTokens::old_logprobs_T, tokens.logprobs_M, packed.lengths);
    if (entropy) assign(batch, &CompletionTokens::entropy_T, tokens.entropy_M, packed.lengths);
  }
}

/// Replayed rollouts come from another policy: what it said stands in their store.
void PolicyUpdater::take_stored_logprobs() {
  if (algorithm_.top_entropy_quantile() < 1.0) compute_old_logprobs();  // for the entropies
  for (auto& item : items_)
    item.old_logprobs_T = at::tensor(scored_->groups[item.group].completions[item.index].logprobs);
}

void PolicyUpdater::compute_ref_logprobs() {
  for (const auto& batch : micro_batches(items_)) {
    const auto packed = pack(batch, /*reference=*/true);
    const auto logprobs_M = policy_.with_reference([&](CausalLm& model) {
      return without_gradient(model, packed, /*entropy=*/false).logprobs_M;
    });
    assign(batch, &CompletionTokens::ref_logprobs_T, logprobs_M, packed.lengths);
  }
}

void PolicyUpdater::compute_values() {
  if (!algorithm_.has_critic()) return;
  at::NoGradGuard no_grad;
  for (const auto& batch : micro_batches(items_)) {
    const auto packed = pack(batch);
    assign(batch, &CompletionTokens::values_T, algorithm_.values(packed.batch, packed.selected_M),
           packed.lengths);
  }
}

void PolicyUpdater::compute_current_logprobs(std::span<CompletionTokens> items) const {
  for (const auto& batch : micro_batches(items)) {
    const auto packed = pack(batch);
    assign(batch, &CompletionTokens::logprobs_T,
           without_gradient(policy_.model(), packed, /*entropy=*/false).logprobs_M, packed.lengths);
  }
}

/// The entropy from which a token belongs to the top share of the generation, over all ranks; below
/// every entropy if all belong. As torch.quantile, between two values in proportion.
double PolicyUpdater::entropy_threshold() const {
  const double share = algorithm_.top_entropy_quantile();
  if (share >= 1.0) return -1.0;
  std::vector<at::Tensor> parts{at::empty({0})};
  for (const auto& item : items_) parts.push_back(item.entropy_T.masked_select(item.mask_T > 0));
  const auto all = at::cat(all_gather_ragged(run_.comm(), at::cat(parts)));
  return all.numel() > 0 ? at::quantile(all, 1.0 - share).item<double>() : -1.0;
}

/// 1 on the tokens of largest entropy.
at::Tensor PolicyUpdater::entropy_mask(const at::Tensor& entropies) const {
  return (entropies >= entropy_threshold_).to(at::kFloat);
}

UpdateTotals PolicyUpdater::totals_of(std::span<const CompletionTokens> items) const {
  double tokens = 0.0, entropy_tokens = 0.0, groups = 0.0;
  for (size_t i = 0; i < items.size(); ++i) {
    const auto& item = items[i];
    groups += i == 0 || item.group != items[i - 1].group;
    tokens += item.mask_T.sum().item<double>();
    if (item.entropy_T.defined())
      entropy_tokens += (entropy_mask(item.entropy_T) * item.mask_T).sum().item<double>();
  }
  at::Tensor sums =
      at::tensor({tokens, static_cast<double>(items.size()), entropy_tokens, groups}, at::kDouble);
  run_.comm().all_reduce(sums, ReduceOp::kSum);
  return {.num_tokens = sums[0].item<double>(),
          .num_completions = sums[1].item<double>(),
          .num_entropy_tokens = sums[2].item<double>(),
          .num_groups = sums[3].item<double>()};
}

double PolicyUpdater::advantage_of(const CompletionTokens& item) const {
  return advantages_PG_[static_cast<int64_t>(item.group)][static_cast<int64_t>(item.index)]
      .item<double>();
}

bool PolicyUpdater::has_advantage(const CompletionTokens& item) const {
  return item.advantages_T.defined() ? item.advantages_T.any().item<bool>()
                                     : advantage_of(item) != 0.0;
}

/// Moves the groups that learn to the front and returns how many items they have. One always does:
/// the optimiser's momentum goes on where every gradient is zero.
size_t PolicyUpdater::learning_first(std::span<CompletionTokens> items) const {
  if (algorithm_.learns_without_advantage()) return items.size();
  std::set<size_t> learning;
  for (const auto& item : items)
    if (has_advantage(item)) learning.insert(item.group);
  if (learning.empty() && !items.empty()) learning.insert(items.front().group);
  const auto rest = std::stable_partition(
      items.begin(), items.end(), [&](const auto& item) { return learning.contains(item.group); });
  return static_cast<size_t>(rest - items.begin());
}

LossOutput PolicyUpdater::loss(std::span<const CompletionTokens> items, const Packed& packed,
                               const UpdateTotals& totals, bool first) {
  const auto tokens = token_logprobs(policy_.model(), packed.batch, packed.selected_M,
                                     recipe_.rollout.temperature, /*with_entropy=*/true);
  const auto batch = make_batch(items, packed, tokens);
  auto output = algorithm_.loss(batch, totals, recipe_.rollout.max_completion_length);
  output.metrics["entropy"] = {(tokens.entropy_M.detach() * batch.mask_M).sum().item<double>(),
                               batch.mask_M.sum().item<double>()};
  if (first) record_sampling_difference(batch);
  return output;
}

PolicyBatch PolicyUpdater::make_batch(std::span<const CompletionTokens> items, const Packed& packed,
                                      const TokenLogprobs& tokens) const {
  PolicyBatch batch{.packed = &packed.batch,
                    .selected_M = packed.selected_M,
                    .logprobs_M = tokens.logprobs_M,
                    .entropy_M = tokens.entropy_M,
                    .completion_M = packed.completion_M,
                    .group_C = packed.group_C,
                    .num_completions = static_cast<int64_t>(items.size())};
  std::vector<float> advantages, sampled;
  for (const auto& item : items) {
    const auto& completion = scored_->groups[item.group].completions[item.index];
    advantages.push_back(static_cast<float>(advantage_of(item)));
    sampled.insert(sampled.end(), completion.logprobs.begin(), completion.logprobs.end());
  }
  batch.mask_M = gathered(items, &CompletionTokens::mask_T);
  batch.old_logprobs_M = gathered(items, &CompletionTokens::old_logprobs_T);
  if (!batch.old_logprobs_M.defined()) batch.old_logprobs_M = tokens.logprobs_M.detach();
  batch.sampling_logprobs_M = at::tensor(sampled);
  batch.ref_logprobs_M = gathered(items, &CompletionTokens::ref_logprobs_T);
  batch.advantages_C = at::tensor(advantages);
  batch.advantages_M = gathered(items, &CompletionTokens::advantages_T);
  batch.returns_M = gathered(items, &CompletionTokens::returns_T);
  batch.old_values_M = gathered(items, &CompletionTokens::values_T);
  batch.selected_tokens_M = gathered(items, &CompletionTokens::selected_T);
  if (const auto entropies_M = gathered(items, &CompletionTokens::entropy_T); entropies_M.defined())
    batch.entropy_mask_M = entropy_mask(entropies_M);
  return batch;
}

/// How far the engine's log-probabilities are from the training forward's.
void PolicyUpdater::record_sampling_difference(const PolicyBatch& batch) {
  const double count = batch.mask_M.sum().item<double>();
  if (count <= 0.0) return;
  const auto gap_M = (batch.old_logprobs_M - batch.sampling_logprobs_M) * batch.mask_M;
  const auto ratio_M = gap_M.exp();
  auto& recorder = run_.recorder();
  recorder.record("sampling/sampling_logp_difference/mean",
                  gap_M.abs().sum().item<double>() / count, Reduce::kMean, count);
  recorder.record("sampling/sampling_logp_difference/max", gap_M.abs().max().item<double>(),
                  Reduce::kMax);
  recorder.record("sampling/importance_sampling_ratio/mean",
                  (ratio_M * batch.mask_M).sum().item<double>() / count, Reduce::kMean, count);
  recorder.record("sampling/importance_sampling_ratio/min", ratio_M.min().item<double>(),
                  Reduce::kMin);
  recorder.record("sampling/importance_sampling_ratio/max", ratio_M.max().item<double>(),
                  Reduce::kMax);
}

}  // namespace meed
