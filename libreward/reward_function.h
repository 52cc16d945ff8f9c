#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "libpolicy/checkpoint/state_dict.h"
#include "libpolicy/core/registry.h"
#include "libpolicy/generation/rollout.h"

namespace meed {

/// One completion's score. A function that gives step or token values says so by
/// `static constexpr const char* kShapes = "outcome step"` in its Config; "outcome" is the default.
/// `parts` are unweighted and logged as rewards/<name>/<part>. NaN: this function does not apply.
struct Score {
  double value = 0.0;
  std::vector<double> step_values{};   ///< Process rewards, one per step; empty if none.
  std::vector<double> token_values{};  ///< Dense rewards, one per token; empty if none.
  /// `value` is one of the step values or made of them: who reads the steps does not add it.
  bool value_in_steps = false;
  std::map<std::string, double> parts{};
  /// Why the input could not be read ("no_tool_call"), or empty. Counted as
  /// rewards/<name>/unreadable/<reason>.
  std::string unreadable{};
};

/// Turns completions into numbers. Model output is untrusted: text that cannot be parsed scores
/// low, it never throws. Throw only for a broken dataset or configuration.
class RewardFunction {
 public:
  virtual ~RewardFunction() = default;
  /// Scores every completion of every group; result[p][g] belongs to groups[p].completions[g]. Sees
  /// whole groups so that pairwise and relative rewards need no second interface.
  virtual std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) = 0;
  virtual void save(StateDict&) const {}  ///< What it learnt or counted; most have none.
  virtual void load(const StateDict&) {}
};

/// Base for rewards that look at one completion at a time.
class PointwiseReward : public RewardFunction {
 public:
  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) final;

 protected:
  virtual Score score_one(const Example& example, const Completion& completion) = 0;
};

/// Keys that every reward of a recipe takes beside its own.
struct RewardTerm {
  /// A factor on the weight that changes with the optimiser's steps.
  struct Schedule {
    std::vector<int64_t> steps;
    std::vector<double> factors;
    std::string interpolation = "linear";
    void fields(FieldVisitor& v);
    /// The factor at `step`; 1 if there is no schedule.
    double at(int64_t step) const;
  };
  /// The reward counts only where other rewards of the recipe reach a value.
  struct Gate {
    std::vector<std::string> rewards;
    double at_least = 1.0, otherwise = 0.0;
    void fields(FieldVisitor& v);
  };
  /// The reward applies only to rows of the dataset that say so.
  struct Rows {
    std::string column;
    std::vector<std::string> values;
    void fields(FieldVisitor& v);
    /// True of every row where no column is named. Throws DataError on a row without the column.
    bool apply_to(const Example& example) const;
  };
  double weight = 1.0;
  std::string name;
  std::vector<ConfigNode> transforms;
  Schedule weight_schedule;
  Gate gate;
  Rows rows;
  void fields(FieldVisitor& v);
};

Registry<RewardFunction>& reward_functions();

/// For fields(): a reward, or several, inside another component. It is asked for its scores alone;
/// the keys by which a recipe's own rewards are weighted and transformed are refused there.
void inner_reward(FieldVisitor& v, const char* name, std::optional<ConfigNode>& value,
                  const char* help);
void inner_rewards(FieldVisitor& v, const char* name, std::vector<ConfigNode>& value,
                   const char* help);

}  // namespace meed
