#include "algorithms/rollout_archive.h"

#include <ATen/ATen.h>

#include "libpolicy/distributed/communicator.h"

namespace meed {
namespace {

ScoredRollouts as_scored(StoredRollouts stored) {
  ScoredRollouts scored{.groups = std::move(stored.groups),
                        .rewards_PG = std::move(stored.rewards_PG),
                        .terminal_PG = std::move(stored.terminal_PG),
                        .components = std::move(stored.components),
                        .transformed = std::move(stored.transformed),
                        .weights = std::move(stored.weights),
                        .tokens_PGT = std::move(stored.tokens_PGT)};
  scored.num_groups = static_cast<int64_t>(scored.groups.size());
  return scored;
}

}  // namespace

RolloutArchive::RolloutArchive(std::filesystem::path folder, Communicator& comm)
    : store_(std::move(folder)), comm_(comm) {}

void RolloutArchive::write(const ScoredRollouts& rollouts, const at::Tensor& advantages_PG,
                           int64_t step) {
  const auto sent = comm_.all_gather(to_bytes({.step = step,
                                               .groups = rollouts.groups,
                                               .rewards_PG = rollouts.rewards_PG,
                                               .terminal_PG = rollouts.terminal_PG,
                                               .advantages_PG = advantages_PG,
                                               .components = rollouts.components,
                                               .transformed = rollouts.transformed,
                                               .weights = rollouts.weights,
                                               .tokens_PGT = rollouts.tokens_PGT}));
  const auto places = at::cat(all_gather_ragged(comm_, at::tensor(rollouts.places, at::kLong)));
  if (!comm_.is_main()) return;
  ScoredRollouts all;
  std::vector<at::Tensor> advantages;
  for (const auto& bytes : sent) {
    auto stored = from_bytes(bytes);
    if (stored.groups.empty()) continue;
    advantages.push_back(stored.advantages_PG);
    auto scored = as_scored(std::move(stored));
    all = all.groups.empty() ? std::move(scored) : joined_groups(std::move(all), std::move(scored));
  }
  if (all.groups.empty()) return;
  // In the order of their places, whichever rank sampled them.
  const auto order = places.argsort();
  const auto* first = order.const_data_ptr<int64_t>();
  const std::vector<int64_t> rows(first, first + order.numel());
  auto sorted = select_groups(all, rows, {}, all.num_groups);
  store_.write({.step = step,
                .groups = std::move(sorted.groups),
                .rewards_PG = sorted.rewards_PG,
                .terminal_PG = sorted.terminal_PG,
                .advantages_PG = at::cat(advantages).index_select(0, order),
                .components = std::move(sorted.components),
                .transformed = std::move(sorted.transformed),
                .weights = std::move(sorted.weights),
                .tokens_PGT = std::move(sorted.tokens_PGT)});
}

ScoredRollouts RolloutArchive::read(int64_t index) const {
  const auto files = store_.files();
  auto all = as_scored(RolloutStore::read(files[static_cast<size_t>(index) % files.size()]));
  std::vector<int64_t> mine;
  for (int64_t p = comm_.rank(); p < all.num_groups; p += comm_.size()) mine.push_back(p);
  return select_groups(all, mine, mine, all.num_groups);
}

}  // namespace meed
