#include "algorithms/step_evaluation.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"
#include "libpolicy/distributed/communicator.h"
#include "libreward/losses/regression.h"

namespace meed {
namespace {

/// 1-based places of the first error by the labels and by the model; false where it is not known.
struct FirstErrors {
  bool known = false;
  std::optional<int64_t> label, predicted;
};

FirstErrors first_errors(const JudgedSteps& solution, double threshold) {
  MEED_CHECK(solution.probabilities.size() <= solution.labels.size(),
             "no more probabilities than steps");
  FirstErrors errors;
  bool missing = false;
  for (size_t i = 0; i < solution.labels.size() && !errors.label; ++i) {
    if (solution.labels[i] == kMissingLabel)
      missing = true;
    else if (solution.labels[i] < 0.5)
      errors.label = static_cast<int64_t>(i) + 1;
  }
  errors.known = errors.label || !missing;
  errors.predicted = first_step_below(solution.probabilities, threshold);
  if (errors.predicted)
    *errors.predicted +=
        static_cast<int64_t>(solution.labels.size() - solution.probabilities.size());
  return errors;
}

FirstErrorScores scores_at(std::span<const JudgedSteps> solutions, double threshold) {
  std::vector<std::optional<int64_t>> labels, predictions;
  for (const auto& solution : solutions) {
    const auto errors = first_errors(solution, threshold);
    if (!errors.known) continue;
    labels.push_back(errors.label);
    predictions.push_back(errors.predicted);
  }
  return first_error_scores(labels, predictions);
}

}  // namespace

StepEvaluation evaluate_steps(std::span<const JudgedSteps> solutions, double threshold) {
  StepEvaluation result{.first_error = scores_at(solutions, threshold)};
  double several = 0.0;
  for (const auto& [labels, p] : solutions) {
    const size_t cut = labels.size() - p.size();
    for (size_t i = 0; i < p.size(); ++i) {
      if (labels[cut + i] == kMissingLabel) continue;
      result.num_steps += 1.0;
      result.steps_right += (p[i] > 0.5) == (labels[cut + i] > 0.5);
    }
    if (p.size() < 2) continue;
    several += 1.0;
    result.last_step_minimum += std::min_element(p.begin(), p.end()) == p.end() - 1;
  }
  result.last_step_minimum /= std::max(1.0, several);
  return result;
}

double best_threshold(std::span<const JudgedSteps> solutions) {
  double best = 0.5, best_f1 = -1.0;
  for (int percent = 1; percent <= 99; ++percent) {
    const double threshold = percent / 100.0, f1 = scores_at(solutions, threshold).f1;
    const bool nearer = std::abs(threshold - 0.5) < std::abs(best - 0.5);
    if (f1 < best_f1 || (f1 == best_f1 && !nearer)) continue;
    best_f1 = f1;
    best = threshold;
  }
  return best;
}

std::vector<JudgedSteps> gathered(Communicator& comm, const std::vector<JudgedSteps>& own) {
  auto json = nlohmann::json::array();
  for (const auto& solution : own) json.push_back({solution.labels, solution.probabilities});
  std::vector<JudgedSteps> all;
  for (const auto& part : comm.all_gather(json.dump()))
    for (const auto& each : nlohmann::json::parse(part))
      all.push_back({each[0].get<std::vector<double>>(), each[1].get<std::vector<double>>()});
  return all;
}

}  // namespace meed
