#include "algorithms/reference_logprobs.h"

#include <ATen/ATen.h>

#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/random.h"

namespace meed {
namespace {

constexpr int64_t kRowsAtOnce = 8;

/// A pair's name: a hash of its token ids.
uint64_t key_of(const EncodedRow& row) {
  uint64_t key = 0;
  const auto mix = [&](const std::vector<int64_t>& ids) {
    key = mix_seed({key, ids.size()});
    for (const int64_t id : ids) key = mix_seed({key, static_cast<uint64_t>(id)});
  };
  mix(row.prompt_ids);
  for (const auto& ids : row.completion_ids) mix(ids);
  return key;
}

}  // namespace

ReferenceLogprobs::ReferenceLogprobs(TrainingRun& run, Policy& policy,
                                     const std::function<EncodedRow(const Example&)>& encode,
                                     std::optional<double> ld_alpha) {
  add(run, run.data(), policy, encode, ld_alpha);
  if (run.eval_data() != nullptr) add(run, *run.eval_data(), policy, encode, ld_alpha);
  policy.release_reference();
}

void ReferenceLogprobs::add(TrainingRun& run, const Dataset& data, Policy& policy,
                            const std::function<EncodedRow(const Example&)>& encode,
                            std::optional<double> ld_alpha) {
  std::vector<int64_t> keys;
  std::vector<at::Tensor> parts{at::empty({0, 2})};
  std::vector<EncodedRow> rows;
  const auto flush = [&] {
    if (rows.empty()) return;
    const PairBatch pairs(rows);
    const auto sums_2B =
        policy.with_reference([&](CausalLm& model) { return pair_sums(model, pairs, ld_alpha); });
    parts.push_back(sums_2B.view({2, -1}).t());
    for (const auto& row : rows) keys.push_back(static_cast<int64_t>(key_of(row)));
    rows.clear();
  };
  for (int64_t i = run.comm().rank(); i < data.size(); i += run.comm().size()) {
    rows.push_back(encode(data.get(i)));
    if (static_cast<int64_t>(rows.size()) == kRowsAtOnce) flush();
  }
  flush();
  const auto all_keys = at::cat(all_gather_ragged(run.comm(), at::tensor(keys, at::kLong)));
  const auto all = at::cat(all_gather_ragged(run.comm(), at::cat(parts))).contiguous();
  const auto* key = all_keys.const_data_ptr<int64_t>();
  const auto* sum = all.const_data_ptr<float>();
  for (int64_t n = 0; n < all_keys.numel(); ++n)
    sums_[static_cast<uint64_t>(key[n])] = {sum[2 * n], sum[2 * n + 1]};
}

at::Tensor ReferenceLogprobs::sums(std::span<const EncodedRow> rows) const {
  at::Tensor sums_2B = at::empty({2 * static_cast<int64_t>(rows.size())});
  auto* out = sums_2B.mutable_data_ptr<float>();
  for (size_t b = 0; b < rows.size(); ++b) {
    const auto found = sums_.find(key_of(rows[b]));
    MEED_CHECK(found != sums_.end(), "a pair without precomputed log-probabilities");
    out[b] = found->second.chosen;
    out[rows.size() + b] = found->second.rejected;
  }
  return sums_2B;
}

}  // namespace meed
