#include <algorithm>
#include <cmath>
#include <map>

#include "libpolicy/core/error.h"
#include "libpolicy/text/placeholders.h"
#include "libreward/functions/columns.h"
#include "libreward/models/language_scorer.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// A language model's grade of a completion: it reads a question about it, and its expected grade
/// is the mean of `grades` by the probabilities of their words (WeThink's judge of open items;
/// ExTrans's reward of the thought with grades 0, 1/2 and 1).
class ModelGrade final : public RewardFunction {
 public:
  struct Config {
    LanguageScorer::Config model;
    std::string pattern =
        "Question:\n{prompt}\n\nReference answer:\n{reference}\n\nAnswer:\n{completion}\n\nDoes "
        "the "
        "answer say what the reference says? Reply with yes, partly or no.";
    std::string reference_column = "reference";
    std::string block_tag;
    std::vector<std::string> words = {"yes", "partly", "no"};
    std::vector<double> grades = {1.0, 0.5, 0.0};
    bool most_likely = false;
    bool chat = true;
    void fields(FieldVisitor& v) {
      model.fields(v);
      v.field(
          "template", pattern,
          "What it reads; {prompt}, {completion} and, from the row, {reference} are filled in.");
      v.field("reference_column", reference_column, "Column that {reference} stands for.");
      v.field("block_tag", block_tag,
              "{completion} is the inside of this tag, such as think; without it the grade is the "
              "least. Empty: all.");
      v.field("words", words, "Replies of the model.");
      v.field("grades", grades, "What each of them is worth.");
      v.field("most_likely", most_likely, "The likeliest reply's grade instead of the mean.");
      v.field("chat", chat, "Through the model's chat template, as a user's message.");
      v.require(words.size() == grades.size() && !words.empty(), "grades",
                "must be as many as words");
      v.require(pattern.find("{completion}") != std::string::npos, "template",
                "must hold {completion}");
    }
  };
  explicit ModelGrade(const Config& config) : config_(config), scorer_(config.model) {}

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    std::vector<std::vector<Score>> scores;
    std::vector<LanguageScorer::Query> asked;
    std::vector<Score*> places;
    for (const auto& group : groups) scores.emplace_back(group.completions.size());
    for (size_t p = 0; p < groups.size(); ++p)
      for (size_t g = 0; g < groups[p].completions.size(); ++g) {
        const auto& text = groups[p].completions[g].text;
        const auto block = config_.block_tag.empty() ? std::optional<std::string_view>(text)
                                                     : only_block(text, config_.block_tag);
        if (!block || is_blank(*block)) {
          scores[p][g] = {.value = *std::min_element(config_.grades.begin(), config_.grades.end()),
                          .unreadable = block ? "empty" : "no_" + config_.block_tag};
          continue;
        }
        LanguageScorer::Query query{
            .prompt = spoken(config_.chat, "user", filled(groups[p].example, *block))};
        for (const auto& word : config_.words)
          query.continuations.push_back(spoken(config_.chat, "assistant", word));
        asked.push_back(std::move(query));
        places.push_back(&scores[p][g]);
      }
    const auto likelihoods = scorer_.score(asked);
    for (size_t i = 0; i < places.size(); ++i) places[i]->value = grade(likelihoods[i]);
    return scores;
  }

 private:
  double grade(const std::vector<LanguageScorer::Likelihood>& likelihoods) const {
    size_t best = 0;
    for (size_t i = 1; i < likelihoods.size(); ++i)
      if (likelihoods[i].sum > likelihoods[best].sum) best = i;
    if (config_.most_likely) return config_.grades[best];
    double sum = 0.0, mass = 0.0;
    for (size_t i = 0; i < likelihoods.size(); ++i) {
      const double share = std::exp(likelihoods[i].sum - likelihoods[best].sum);
      sum += share * config_.grades[i];
      mass += share;
    }
    return sum / mass;
  }

  std::string filled(const Example& example, std::string_view completion) const {
    std::map<std::string, std::string> values{{"prompt", as_text(example.prompt, "\n")},
                                              {"completion", std::string(completion)}};
    // Rows need the column only where the template asks for it.
    if (config_.pattern.find("{reference}") != std::string::npos)
      values["reference"] = column(example, config_.reference_column, "model_grade");
    return fill_placeholders(config_.pattern, values);
  }

  Config config_;
  LanguageScorer scorer_;
};

MEED_REGISTER(reward_functions, "model_grade", ModelGrade,
              "A language model's grade of a completion, by the probabilities of its replies.");

}  // namespace
}  // namespace meed
