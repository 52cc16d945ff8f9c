#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "libpolicy/core/error.h"
#include "libpolicy/text/answer.h"
#include "libpolicy/text/unicode.h"
#include "libreward/functions/columns.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// Decision on a job application with score and reasons: weights times right decision, nearness of
/// the score in [0, 10], F1 of the skills named as evidence, and form, less a bounded penalty.
/// The completion says <decision>SELECTED|REJECTED</decision>, <score>N</score> and
/// <reasons>skill, skill</reasons>.
class JobApplication final : public PointwiseReward {
 public:
  struct Config {
    std::string decision_column = "decision", score_column = "score", skills_column = "skills";
    double decision_weight = 1.0, score_weight = 0.5, evidence_weight = 0.5, format_weight = 0.25;
    double penalty = 0.25, accept_score = 5.0;
    std::string penalize = "contradiction";
    std::string baseline_column;
    void fields(FieldVisitor& v) {
      v.field("decision_column", decision_column, "Column with SELECTED or REJECTED.");
      v.field("score_column", score_column, "Column with the right score, 0 to 10.");
      v.field("skills_column", skills_column, "Column with the required skills: a JSON list.");
      v.field("decision_weight", decision_weight, "For the right decision.");
      v.field("score_weight", score_weight, "For a score near the right one.");
      v.field("evidence_weight", evidence_weight, "For naming the skills that decide.");
      v.field("format_weight", format_weight, "For the right form.");
      v.field("penalty", penalty,
              "Cost of what `penalize` says; at most 0.25 is gentle, 2 makes policies reject all.");
      v.choice("penalize", penalize, {"contradiction", "false_accept"},
               "contradiction: decision and score disagree; false_accept: the whole reward of a "
               "wrong SELECTED is -penalty.");
      v.field("accept_score", accept_score,
              "contradiction: a score from here on speaks for SELECTED.");
      v.field("baseline_column", baseline_column,
              "Column with another judge's decision, whose accuracy is recorded as the part "
              "baseline.");
      v.require(penalty >= 0, "penalty", "must not be negative");
    }
  };
  explicit JobApplication(const Config& config) : config_(config) {}

 private:
  Score score_one(const Example& example, const Completion& completion) override {
    const std::string_view text = completion.text;
    const auto decision = read_decision(only_block(text, "decision"));
    const auto block = only_block(text, "score");
    auto given = block ? parse_number(*block) : std::nullopt;
    if (given && (*given < 0.0 || *given > 10.0)) given.reset();
    const auto reasons = only_block(text, "reasons");
    const auto wanted = read_decision(column(example, config_.decision_column, "job_application"));
    if (!wanted) bad_column(example, config_.decision_column, "SELECTED or REJECTED");
    const auto gold = parse_number(column(example, config_.score_column, "job_application"));
    if (!gold) bad_column(example, config_.score_column, "a number");
    const auto skills = texts_of(column(example, config_.skills_column, "job_application"));

    Score score;
    if (!decision)
      score.unreadable = "no_decision";
    else if (!given)
      score.unreadable = "no_score";
    else if (!reasons)
      score.unreadable = "no_reasons";
    score.parts = {{"decision", decision && *decision == *wanted ? 1.0 : 0.0},
                   {"score", given ? std::max(0.0, 1.0 - std::abs(*given - *gold) / 10.0) : 0.0},
                   {"evidence", reasons ? evidence_f1(*reasons, skills) : 0.0},
                   {"format", score.unreadable.empty() ? 1.0 : 0.0}};
    // Means over the completions that have them: of the rows to select, and of those selected.
    if (*wanted) score.parts["recall"] = decision && *decision ? 1.0 : 0.0;
    if (decision && *decision) score.parts["precision"] = *wanted ? 1.0 : 0.0;
    if (!config_.baseline_column.empty()) {
      const auto other = read_decision(column(example, config_.baseline_column, "job_application"));
      score.parts["baseline"] = other == wanted ? 1.0 : 0.0;
    }
    score.value = config_.decision_weight * score.parts["decision"] +
                  config_.score_weight * score.parts["score"] +
                  config_.evidence_weight * score.parts["evidence"] +
                  config_.format_weight * score.parts["format"];
    if (config_.penalize == "false_accept") {
      if (decision && *decision && !*wanted) score.value = -config_.penalty;
    } else if (decision && given && *decision != (*given >= config_.accept_score)) {
      score.value -= config_.penalty;
    }
    return score;
  }

  [[noreturn]] static void bad_column(const Example& example, const std::string& name,
                                      const char* expected) {
    throw DataError("row " + std::to_string(example.row + 1) + ": job_application: the column \"" +
                    name + "\": expected " + expected + ", got \"" +
                    example.extra.at(name).substr(0, 60) + "\"");
  }

  static std::string lower_trimmed(std::string_view raw) {
    const auto first = raw.find_first_not_of(" \t\r\n.;");
    if (first == std::string_view::npos) return "";
    raw = raw.substr(first, raw.find_last_not_of(" \t\r\n.;") - first + 1);
    std::u32string lower;
    for (const char32_t c : unicode::decode(unicode::replace_invalid(raw)))
      unicode::append_lower(lower, c);
    return unicode::encode(lower);
  }

  static std::optional<bool> read_decision(std::optional<std::string_view> text) {
    if (!text) return std::nullopt;
    const auto word = lower_trimmed(*text);
    if (word == "selected") return true;
    if (word == "rejected") return false;
    return std::nullopt;
  }

  static double evidence_f1(std::string_view reasons, const std::vector<std::string>& skills) {
    std::set<std::string> named, wanted;
    for (size_t begin = 0; begin <= reasons.size();) {
      const size_t end = std::min(reasons.find_first_of(",\n;", begin), reasons.size());
      if (auto word = lower_trimmed(reasons.substr(begin, end - begin)); !word.empty())
        named.insert(std::move(word));
      begin = end + 1;
    }
    for (const auto& skill : skills) wanted.insert(lower_trimmed(skill));
    const auto common = std::count_if(named.begin(), named.end(),
                                      [&](const auto& word) { return wanted.count(word) > 0; });
    return named.empty() ? 0.0
                         : 2.0 * static_cast<double>(common) /
                               static_cast<double>(named.size() + wanted.size());
  }

  Config config_;
};

MEED_REGISTER(reward_functions, "job_application", JobApplication,
              "Decision, score, evidence and form of an assessed job application.");

}  // namespace
}  // namespace meed
