#include "libreward/models/language_scorer.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// FLR: how much likelier a language model finds the user's contented follow-ups than the
/// discontented ones after this answer, mean over the positive less mean over the negative ones of
/// the mean log-probability of a token. Facets of helpfulness are several such rewards.
class FollowUpLikelihood final : public RewardFunction {
 public:
  struct Config {
    LanguageScorer::Config model;
    std::vector<std::string> positive = {"Thanks, that is what I needed.",
                                         "Great, that answers my question."};
    std::vector<std::string> negative = {"That is not what I asked.", "That is wrong."};
    std::string separator = "\n";
    void fields(FieldVisitor& v) {
      model.fields(v);
      v.field("positive", positive, "What a contented user would say next.");
      v.field("negative", negative, "What a discontented user would say next.");
      v.field("separator", separator,
              "Stands between answer and follow-up in plain text; messages need none.");
      v.require(!positive.empty() && !negative.empty(), "negative",
                "and positive must each hold a follow-up");
    }
  };
  explicit FollowUpLikelihood(const Config& config) : config_(config), scorer_(config.model) {}

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    std::vector<LanguageScorer::Query> queries;
    for (const auto& group : groups)
      for (const auto& completion : group.completions)
        queries.push_back(query(group.example.prompt, completion.text));
    const auto likelihoods = scorer_.score(queries);
    std::vector<std::vector<Score>> scores;
    size_t q = 0;
    for (const auto& group : groups) {
      auto& row = scores.emplace_back();
      for (size_t g = 0; g < group.completions.size(); ++g, ++q) {
        const double good = mean(likelihoods[q], 0, config_.positive.size());
        const double bad =
            mean(likelihoods[q], config_.positive.size(), likelihoods[q].size());
        row.push_back({.value = good - bad, .parts = {{"positive", good}, {"negative", bad}}});
      }
    }
    return scores;
  }

 private:
  LanguageScorer::Query query(Content prompt, const std::string& answer) const {
    if (prompt.conversational)
      prompt.messages.push_back({"assistant", answer, ""});
    else
      prompt.text += answer + config_.separator;
    LanguageScorer::Query query{.prompt = std::move(prompt), .continuations = {}};
    for (const auto* list : {&config_.positive, &config_.negative})
      for (const auto& text : *list) {
        auto& content = query.continuations.emplace_back();
        content.conversational = query.prompt.conversational;
        if (content.conversational)
          content.messages = {{"user", text, ""}};
        else
          content.text = text;
      }
    return query;
  }
  static double mean(const std::vector<LanguageScorer::Likelihood>& all, size_t from, size_t to) {
    double sum = 0.0;
    for (size_t i = from; i < to; ++i) sum += all[i].mean();
    return sum / static_cast<double>(to - from);
  }

  Config config_;
  LanguageScorer scorer_;
};

MEED_REGISTER(reward_functions, "follow_up_likelihood", FollowUpLikelihood,
              "Likelihood of a contented user's next words less a discontented one's (FLR).");

}  // namespace
}  // namespace meed
