#include <algorithm>
#include <cmath>

#include "libpolicy/core/error.h"
#include "libreward/functions/columns.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// A rule where the answer can be checked, a model where it cannot.
///   by: route       the row's column says rule, model or both (their mean); a rule that could not
///                   read a completion leaves it to the model (WeThink)
///   by: confidence  k rule + (1 - k) model, k the rule's part "confidence" (HARMO)
/// The model sees only what needs it.
class Hybrid final : public RewardFunction {
 public:
  struct Config {
    std::optional<ConfigNode> rule, model;
    std::string by = "route";
    std::string route_column = "reward";
    std::string default_route = "rule";
    void fields(FieldVisitor& v) {
      inner_reward(v, "rule", rule, "The reward of what can be checked.");
      inner_reward(v, "model", model, "The reward of everything else.");
      v.required("rule");
      v.required("model");
      v.choice("by", by, {"route", "confidence"},
               "The row says which counts, or the rule's confidence weighs the two.");
      v.field("route_column", route_column, "Column with rule, model or both.");
      v.choice("default_route", default_route, {"rule", "model", "both"},
               "For rows without that column.");
    }
  };
  Hybrid(const Config& config, RunContext& context)
      : config_(config),
        rule_(reward_functions().create(*config.rule, context)),
        model_(reward_functions().create(*config.model, context)) {}

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    std::vector<std::string> routes;
    for (const auto& group : groups) routes.push_back(route_of(group.example));
    const auto ruled = part(
        groups, [&](size_t p) { return routes[p] != "model"; }, *rule_);
    const auto judged = part(
        groups, [&](size_t p) { return routes[p] != "rule" || wants_model(ruled[p]); }, *model_);
    std::vector<std::vector<Score>> scores;
    for (size_t p = 0; p < groups.size(); ++p) {
      auto& row = scores.emplace_back();
      for (size_t g = 0; g < groups[p].completions.size(); ++g)
        row.push_back(combined(routes[p], ruled[p].empty() ? nullptr : &ruled[p][g],
                               judged[p].empty() ? nullptr : &judged[p][g]));
    }
    return scores;
  }
  void save(StateDict& state) const override {
    save_under(state, "rule", *rule_);
    save_under(state, "model", *model_);
  }
  void load(const StateDict& state) override {
    load_under(state, "rule", *rule_);
    load_under(state, "model", *model_);
  }

 private:
  std::string route_of(const Example& example) const {
    if (config_.by == "confidence") return "both";
    const auto found = example.extra.find(config_.route_column);
    const auto route = found == example.extra.end() ? config_.default_route : found->second;
    if (route != "rule" && route != "model" && route != "both")
      throw DataError("row " + std::to_string(example.row + 1) + ": column \"" +
                      config_.route_column + "\" holds \"" + route +
                      "\"; expected rule, model or both");
    return route;
  }

  /// Scores of the groups that `wanted` names, empty for the others.
  template <typename Wanted>
  static std::vector<std::vector<Score>> part(std::span<const RolloutGroup> groups, Wanted&& wanted,
                                              RewardFunction& function) {
    std::vector<RolloutGroup> chosen;
    std::vector<size_t> places;
    for (size_t p = 0; p < groups.size(); ++p)
      if (wanted(p)) {
        chosen.push_back(groups[p]);
        places.push_back(p);
      }
    std::vector<std::vector<Score>> scores(groups.size());
    // Called even for no group: a function may have to meet the other ranks.
    auto given = function.score(chosen);
    for (size_t i = 0; i < places.size(); ++i) scores[places[i]] = std::move(given[i]);
    return scores;
  }

  static double confidence(const Score& rule) {
    const auto found = rule.parts.find("confidence");
    if (found != rule.parts.end()) return std::clamp(found->second, 0.0, 1.0);
    return rule.unreadable.empty() && !std::isnan(rule.value) ? 1.0 : 0.0;
  }
  static bool wants_model(const std::vector<Score>& ruled) {
    return std::any_of(ruled.begin(), ruled.end(),
                       [](const Score& score) { return confidence(score) == 0.0; });
  }

  Score combined(const std::string& route, const Score* rule, const Score* model) const {
    Score score;
    double kappa = rule == nullptr ? 0.0 : confidence(*rule);
    if (config_.by == "route" && kappa > 0.0) kappa = route == "both" ? 0.5 : 1.0;
    if (rule != nullptr) {
      score.unreadable = rule->unreadable;
      for (const auto& [name, value] : rule->parts) score.parts["rule_" + name] = value;
      score.parts["rule"] = rule->value;
    }
    if (model != nullptr) score.parts["model"] = model->value;
    score.parts["rule_share"] = kappa;
    score.value = (kappa > 0.0 ? kappa * rule->value : 0.0) +
                  (kappa < 1.0 && model != nullptr ? (1.0 - kappa) * model->value : 0.0);
    return score;
  }

  Config config_;
  std::unique_ptr<RewardFunction> rule_, model_;
};

MEED_REGISTER(reward_functions, "hybrid", Hybrid,
              "A rule where the answer can be checked, a model elsewhere (WeThink, HARMO).");

}  // namespace
}  // namespace meed
