#include "libreward/decoding.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "libpolicy/core/error.h"
#include "libpolicy/text/answer.h"
#include "libpolicy/text/answer_comparison.h"

namespace meed {

std::optional<size_t> best_of_n(std::span<const double> rewards) {
  std::optional<size_t> best;
  for (size_t i = 0; i < rewards.size(); ++i)
    if (!std::isnan(rewards[i]) && (!best || rewards[i] > rewards[*best])) best = i;
  return best;
}

std::optional<size_t> vote(std::span<const std::string> completions,
                           std::span<const double> weights) {
  MEED_CHECK(completions.size() == weights.size(), "one weight for each completion");
  struct Answer {
    std::string text;
    double weight = 0.0;
    size_t best = 0;
  };
  std::vector<Answer> answers;
  for (size_t i = 0; i < completions.size(); ++i) {
    if (!(weights[i] > 0.0)) continue;
    const auto found = find_answer(completions[i]);
    if (!found) continue;
    auto same = std::find_if(answers.begin(), answers.end(), [&](const Answer& answer) {
      return compare_answers(found->text, answer.text).equal;
    });
    if (same == answers.end()) same = answers.insert(answers.end(), {found->text, 0.0, i});
    same->weight += weights[i];
    if (weights[i] > weights[same->best]) same->best = i;
  }
  if (answers.empty()) return std::nullopt;
  return std::max_element(answers.begin(), answers.end(),
                          [](const Answer& a, const Answer& b) { return a.weight < b.weight; })
      ->best;
}

std::vector<double> vote_weights(std::span<const double> rewards, double temperature) {
  double largest = -std::numeric_limits<double>::infinity();
  for (const double reward : rewards)
    if (!std::isnan(reward)) largest = std::max(largest, reward);
  std::vector<double> weights;
  for (const double reward : rewards)
    weights.push_back(reward == largest ? 1.0 : std::exp((reward - largest) / temperature));
  return weights;
}

}  // namespace meed
