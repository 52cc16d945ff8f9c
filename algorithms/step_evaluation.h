#pragma once

#include <span>
#include <vector>

#include "libreward/losses/process.h"

namespace meed {

class Communicator;

/// A solution's steps with what is known of them and what a process reward model says.
struct JudgedSteps {
  std::vector<double> labels;         ///< in [0, 1]; kMissingLabel where there is none
  std::vector<double> probabilities;  ///< of being right; of the last steps where some were cut off
};

/// What a process reward model is worth on labelled solutions (Lessons of developing PRMs;
/// ProcessBench). A solution's first error is its first step with a label below 1/2; it has none
/// if all of its steps have labels and none is below. Solutions of which neither is known count
/// for steps alone.
struct StepEvaluation {
  FirstErrorScores first_error;  ///< predicted: the first step below the threshold
  double steps_right = 0.0;      ///< labelled steps on the right side of 1/2
  double num_steps = 0.0;        ///< labelled steps
  /// Share of solutions of two steps or more whose least probability is the last step's: much of it
  /// is the sign of a model that judges outcomes.
  double last_step_minimum = 0.0;
};
StepEvaluation evaluate_steps(std::span<const JudgedSteps> solutions, double threshold);

/// Of 0.01, 0.02, ..., 0.99 the threshold of the largest F1 of first errors; the one nearest 1/2 of
/// several.
double best_threshold(std::span<const JudgedSteps> solutions);

/// The solutions of all ranks, by rank. A collective.
std::vector<JudgedSteps> gathered(Communicator& comm, const std::vector<JudgedSteps>& own);

}  // namespace meed
