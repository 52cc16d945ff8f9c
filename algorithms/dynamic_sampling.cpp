#include "algorithms/dynamic_sampling.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "algorithms/rollout_sampler.h"
#include "algorithms/training_run.h"
#include "libpolicy/distributed/moments.h"

namespace meed {
namespace {

/// 1 for every group of all ranks whose known rewards differ, [num_groups].
std::vector<int64_t> varied_groups(const ScoredRollouts& scored, Communicator& comm) {
  at::Tensor varied = at::zeros({scored.num_groups}, at::kLong);
  auto* flags = varied.mutable_data_ptr<int64_t>();
  for (size_t p = 0; p < scored.groups.size(); ++p) {
    const auto row = scored.rewards_PG[static_cast<int64_t>(p)];
    const auto known = row.masked_select(row.isfinite());
    if (known.numel() < 2) continue;
    const double low = known.min().item<double>(), high = known.max().item<double>();
    const double rounding = kMeanRounding * std::max(1.0, std::max(std::abs(low), std::abs(high)));
    flags[scored.places[p]] = high - low > rounding;
  }
  comm.all_reduce(varied, ReduceOp::kMax);
  return {flags, flags + scored.num_groups};
}

}  // namespace

std::vector<int64_t> choose_groups(const std::vector<int64_t>& varied, int64_t wanted) {
  std::vector<int64_t> chosen;
  for (const int64_t pass : {1, 0})
    for (size_t place = 0; place < varied.size(); ++place)
      if (varied[place] == pass && static_cast<int64_t>(chosen.size()) < wanted)
        chosen.push_back(static_cast<int64_t>(place));
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

ScoredRollouts sample_dynamically(TrainingRun& run, RolloutSampler& rollouts, Sampler& sampler,
                                  int64_t num_prompts, int64_t policy_version, bool greedy) {
  ScoredRollouts all;
  std::vector<int64_t> varied;
  int64_t batches = 0, found = 0;
  while (found < num_prompts && batches < run.recipe().rollout.max_num_gen_batches) {
    const int64_t position = sampler.position();
    auto scored = rollouts.sample(sampler.next(num_prompts), position, policy_version, greedy);
    const auto flags = varied_groups(scored, run.comm());
    found += std::count(flags.begin(), flags.end(), 1);
    varied.insert(varied.end(), flags.begin(), flags.end());
    for (auto& place : scored.places) place += batches * num_prompts;
    all = batches == 0 ? std::move(scored) : joined_groups(std::move(all), std::move(scored));
    ++batches;
  }
  const auto chosen = choose_groups(varied, num_prompts);
  std::vector<int64_t> kept, places;
  for (size_t p = 0; p < all.places.size(); ++p) {
    const auto at = std::lower_bound(chosen.begin(), chosen.end(), all.places[p]);
    if (at == chosen.end() || *at != all.places[p]) continue;
    kept.push_back(static_cast<int64_t>(p));
    places.push_back(at - chosen.begin());
  }
  auto& recorder = run.recorder();
  recorder.record("dynamic_sampling/num_gen_batches", static_cast<double>(batches), Reduce::kMax);
  recorder.record("dynamic_sampling/frac_dropped",
                  1.0 - static_cast<double>(found) / static_cast<double>(varied.size()),
                  Reduce::kMax);
  recorder.record("dynamic_sampling/num_filled",
                  static_cast<double>(std::max<int64_t>(0, num_prompts - found)), Reduce::kMax);
  return select_groups(all, kept, std::move(places), num_prompts);
}

}  // namespace meed
