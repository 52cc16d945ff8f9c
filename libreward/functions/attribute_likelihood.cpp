#include <charconv>
#include <cmath>

#include "libpolicy/core/error.h"
#include "libreward/functions/columns.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// log P(a | x, y) of SteerLM 2.0: the attributes that the row asks for under a Gaussian around
/// what the attribute models say of the completion, -sum over attributes of (a_k - m_k)^2 / (2
/// sd^2). NaN where a model does not apply.
class AttributeLikelihood final : public RewardFunction {
 public:
  struct Config {
    std::vector<ConfigNode> attributes;
    std::vector<std::string> columns;
    double standard_deviation = 0.5;
    void fields(FieldVisitor& v) {
      inner_rewards(v, "attributes", attributes,
                    "A reward function for each attribute, such as a reward model.");
      v.field("columns", columns, "Columns with the values asked for, as many.");
      v.field("standard_deviation", standard_deviation, "sd, of every attribute.");
      v.require(!attributes.empty() && attributes.size() == columns.size(), "columns",
                "must be as many as attributes, at least one");
      v.require(standard_deviation > 0, "standard_deviation", "must be positive");
    }
  };
  AttributeLikelihood(const Config& config, RunContext& context) : config_(config) {
    for (const auto& node : config.attributes)
      models_.push_back(reward_functions().create(node, context));
  }

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    std::vector<std::vector<Score>> scores;
    for (const auto& group : groups) scores.emplace_back(group.completions.size());
    for (size_t k = 0; k < models_.size(); ++k) {
      const auto means = models_[k]->score(groups);
      for (size_t p = 0; p < groups.size(); ++p) {
        const double wanted = number(groups[p].example, config_.columns[k]);
        for (size_t g = 0; g < means[p].size(); ++g) {
          const double gap = (wanted - means[p][g].value) / config_.standard_deviation;
          scores[p][g].value -= 0.5 * gap * gap;
          scores[p][g].parts[config_.columns[k]] = means[p][g].value;
          scores[p][g].parts["hit_" + config_.columns[k]] =
              std::abs(wanted - means[p][g].value) < 0.5;
          if (!means[p][g].unreadable.empty()) scores[p][g].unreadable = means[p][g].unreadable;
        }
      }
    }
    return scores;
  }

 private:
  static double number(const Example& example, const std::string& name) {
    const auto& text = column(example, name, "attribute_likelihood");
    double value = 0.0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
    if (read.ec != std::errc() || read.ptr != text.data() + text.size() || !std::isfinite(value))
      throw DataError("row " + std::to_string(example.row + 1) + ": column \"" + name +
                      "\" holds \"" + text + "\", not a number");
    return value;
  }
  Config config_;
  std::vector<std::unique_ptr<RewardFunction>> models_;
};

MEED_REGISTER(reward_functions, "attribute_likelihood", AttributeLikelihood,
              "Log-likelihood of the attributes that a row asks for (SteerLM 2.0).");

}  // namespace
}  // namespace meed
