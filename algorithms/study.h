#pragma once

#include <optional>
#include <string>
#include <vector>

#include "algorithms/recipe.h"
#include "algorithms/training_run.h"

namespace meed {

/// A claim about the metrics of a study's arms: a figure and what bounds its mean over the seeds.
///
/// A figure is "arm/metric": the metric's last value in that arm's metrics.jsonl; with @first,
/// @max, @min or @mean behind it that one of all its values; or a number.
struct StudyCheck {
  std::string claim;
  std::string value, minus, over, over_minus;
  std::optional<double> at_least, at_most;
  void fields(FieldVisitor& v);
};

/// `study:` of a recipe: arms that share the recipe but for some keys, on several seeds, and what
/// is claimed of them. An arm is an ordinary run in output_dir/<arm>/seed-<seed>.
struct StudySection {
  /// An arm's settings, dotted keys as on the command line. In any value of the recipe "{seed}"
  /// stands for the seed and "{arm:NAME}" for the run folder of an earlier arm of that seed.
  struct Arm {
    std::string name;
    ConfigNode settings;
  };
  int64_t num_seeds = 1;
  std::vector<Arm> arms;
  std::vector<StudyCheck> checks;
  void fields(FieldVisitor& v);  ///< arms and checks are read beside it
};

/// A recipe with a `study:` section, every run of it read and checked.
class Study {
 public:
  struct Run {
    std::string arm;
    int64_t seed = 0;
    Recipe recipe;
  };

  static bool is_study(const ConfigNode& recipe);
  /// Throws one ConfigError with everything that is wrong in the section or in any arm.
  static Study from_node(const ConfigNode& recipe);

  /// The resolved recipes of the first seed, one YAML document an arm.
  std::string to_yaml() const;
  /// Runs what is not done yet, arm by arm of each seed; prints the table of checks and writes
  /// output_dir/results.json. A check that is not reached is a result, no error. Returns 0, or 130
  /// where a signal stopped it (--resume goes on).
  int run(const TrainOptions& options) const;

 private:
  int64_t first_seed() const { return runs_.front().seed; }

  RunSection section_;
  StudySection study_;
  std::vector<Run> runs_;  ///< seed by seed, arms in order
};

}  // namespace meed
