#include <algorithm>
#include <array>
#include <cmath>

#include "libpolicy/data/generated_task.h"

namespace meed {
namespace {

/// A skill and another word for it.
constexpr std::array<std::array<const char*, 2>, 20> kSkills = {
    {{"cpp", "systems"},       {"python", "scripting"},   {"sql", "databases"},
     {"linux", "unix"},        {"docker", "containers"},  {"cloud", "aws"},
     {"testing", "quality"},   {"design", "drawing"},     {"sales", "selling"},
     {"writing", "editing"},   {"german", "deutsch"},     {"french", "francais"},
     {"teaching", "training"}, {"finance", "accounting"}, {"law", "legal"},
     {"support", "helpdesk"},  {"research", "science"},   {"driving", "transport"},
     {"cooking", "kitchen"},   {"planning", "organising"}}};

/// Applications to be decided (the toy of the job-application reward): a job needs four to six of
/// 20 skills, a resume names skills, some by another word. Coverage of at least 0.6 is SELECTED;
/// the score is 10 times the coverage. Columns: `decision`, `score`, `skills` (those needed, a JSON
/// list), and `keyword_decision`, what counting equal words alone would say. With `error_rate` the
/// completion's decision is wrong, with `skill_error_rate` a skill is left out of its reasons.
class JobApplications final : public GeneratedTask {
 public:
  struct Config {
    GeneratedRows rows;
    double synonym_rate = 0.5, error_rate = 0.0, skill_error_rate = 0.0;
    void fields(FieldVisitor& v) {
      rows.fields(v);
      v.field("synonym_rate", synonym_rate, "Chance that a resume uses the other word.");
      v.field("error_rate", error_rate, "Chance that the completion's decision is wrong.");
      v.field("skill_error_rate", skill_error_rate, "Chance that it leaves a skill out.");
      for (const double rate : {synonym_rate, error_rate, skill_error_rate})
        v.require(rate >= 0 && rate <= 1, "error_rate", "and the other rates must be in [0, 1]");
    }
  };
  explicit JobApplications(const Config& config) {
    generate(config.rows, "job_applications",
             [&](RandomStream& random) { return row(config, random); });
  }

 private:
  static Example row(const Config& config, RandomStream& random) {
    std::vector<size_t> all(kSkills.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    const auto needed = sample_of(all, static_cast<size_t>(random.next_int(4, 6)), random);
    const double aim = random.next();
    std::vector<std::string> job, resume, reasons;
    double covered = 0.0, matched = 0.0;
    for (const size_t skill : needed) {
      job.push_back(kSkills[skill][0]);
      if (random.next() < config.skill_error_rate) continue;
      reasons.push_back(kSkills[skill][0]);
    }
    for (const size_t skill : needed) {
      if (random.next() >= aim) continue;
      const bool other = random.next() < config.synonym_rate;
      resume.push_back(kSkills[skill][other ? 1 : 0]);
      covered += 1.0;
      matched += other ? 0.0 : 1.0;
    }
    for (const size_t skill : sample_of(all, 2, random))
      if (std::find(needed.begin(), needed.end(), skill) == needed.end())
        resume.push_back(kSkills[skill][0]);
    resume = sample_of(resume, resume.size(), random);
    const auto count = static_cast<double>(needed.size());
    const auto decide = [&](double n) { return n >= 0.6 * count - 1e-9 ? "SELECTED" : "REJECTED"; };
    const std::string decision = decide(covered);
    const auto score = static_cast<int64_t>(std::lround(10.0 * covered / count));
    const bool wrong = random.next() < config.error_rate;
    const std::string said = wrong ? (decision == "SELECTED" ? "REJECTED" : "SELECTED") : decision;
    auto example = plain_row("job " + joined(job, " ") + " resume " + joined(resume, " ") + " ?",
                             "<decision>" + said + "</decision><score>" + std::to_string(score) +
                                 "</score><reasons> " + joined(reasons, ", ") + "</reasons>");
    example.extra["decision"] = decision;
    example.extra["score"] = std::to_string(score);
    example.extra["skills"] = json_list(job);
    example.extra["keyword_decision"] = decide(matched);
    return example;
  }
};

MEED_REGISTER(datasets, "job_applications", JobApplications,
              "Jobs and resumes to be decided by the skills that they share.");

}  // namespace
}  // namespace meed
