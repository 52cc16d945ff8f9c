#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace meed {

/// Decoding at test time by reward: which of a prompt's N samples is given.

/// The sample of largest reward, the first of equals; NaN takes no part. nullopt if none has one.
std::optional<size_t> best_of_n(std::span<const double> rewards);

/// Samples whose answers mean the same (compare_answers) vote together; of the answer with the
/// largest sum of weights the sample of largest weight, the first of equals. Samples without an
/// answer, or with a weight that is NaN or not above 0, do not vote. nullopt if none votes.
/// Majority vote: every weight 1; weighted vote: a reward in [0, 1], or vote_weights().
std::optional<size_t> vote(std::span<const std::string> completions,
                           std::span<const double> weights);

/// exp((r - max r) / temperature), NaN where r is: rewards of any range as weights of votes.
std::vector<double> vote_weights(std::span<const double> rewards, double temperature);

}  // namespace meed
