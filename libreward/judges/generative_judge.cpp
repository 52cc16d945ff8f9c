#include <cmath>

#include "libpolicy/text/placeholders.h"
#include "libreward/judges/pairwise_judge.h"
#include "libreward/models/language_scorer.h"

namespace meed {
namespace {

/// A language model that reads both answers and says "A" or "B": the probability of its verdict
/// token, p(A) / (p(A) + p(B)) (Pairwise-RL, generative pairwise reward model).
class GenerativeJudge final : public PairwiseJudge {
 public:
  struct Config {
    LanguageScorer::Config model;
    std::string pattern =
        "Question:\n{prompt}\n\nAnswer A:\n{first}\n\nAnswer B:\n{second}\n\nWhich answer is "
        "better, A or B?";
    std::string first_verdict = "A", second_verdict = "B";
    bool chat = true;
    void fields(FieldVisitor& v) {
      model.fields(v);
      v.field("template", pattern, "What it reads; {prompt}, {first} and {second} are filled in.");
      v.field("first_verdict", first_verdict, "Its verdict for the first answer.");
      v.field("second_verdict", second_verdict, "Its verdict for the second.");
      v.field("chat", chat, "Through the model's chat template, as a user's message.");
      v.require(pattern.find("{first}") != std::string::npos &&
                    pattern.find("{second}") != std::string::npos,
                "template", "must hold {first} and {second}");
      v.require(
          first_verdict != second_verdict && !first_verdict.empty() && !second_verdict.empty(),
          "second_verdict", "must differ from first_verdict, and neither may be empty");
    }
  };
  explicit GenerativeJudge(const Config& config) : config_(config), scorer_(config.model) {}

  std::vector<double> judge(std::span<const JudgeQuery> queries) override {
    std::vector<LanguageScorer::Query> asked;
    for (const auto& query : queries) {
      const auto text =
          fill_placeholders(config_.pattern, {{"prompt", as_text(query.example->prompt, "\n")},
                                              {"first", std::string(query.first)},
                                              {"second", std::string(query.second)}});
      asked.push_back({spoken(config_.chat, "user", text),
                       {spoken(config_.chat, "assistant", config_.first_verdict),
                        spoken(config_.chat, "assistant", config_.second_verdict)}});
    }
    std::vector<double> verdicts;
    for (const auto& likelihoods : scorer_.score(asked)) {
      const double difference = likelihoods[0].sum - likelihoods[1].sum;
      verdicts.push_back(1.0 / (1.0 + std::exp(-difference)));
    }
    return verdicts;
  }

 private:
  Config config_;
  LanguageScorer scorer_;
};

MEED_REGISTER(pairwise_judges, "generative", GenerativeJudge,
              "A language model's verdict, by the probability of its word.");

}  // namespace
}  // namespace meed
