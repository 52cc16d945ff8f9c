#include "libpolicy/data/generated_task.h"
#include "libpolicy/data/tasks/chain_size.h"

namespace meed {
namespace {

/// Solutions of chain_sums with planted errors, for process reward models (the toy of Lessons of
/// developing PRMs): prompt "3+5+2=", steps "3+5=8", "8+2=10", true labels up to the first error,
/// and what a process of making labels would know: `monte_carlo`, the share of k completions from
/// each step's prefix that reach the right answer, and `judge`, the first step that a judge calls
/// wrong (0: none).
class ChainSolutions final : public GeneratedTask {
 public:
  struct Config {
    GeneratedRows rows;
    ChainSize size{.min_terms = 4, .max_terms = 7};
    int64_t num_completions = 8;
    double error_rate = 0.15, completer_accuracy = 0.8, recovered_share = 0.3, judge_noise = 0.1;
    void fields(FieldVisitor& v) {
      rows.fields(v);
      size.fields(v);
      v.field("error_rate", error_rate, "Chance that a step is wrong.");
      v.field("num_completions", num_completions, "Completions from each prefix.");
      v.field("completer_accuracy", completer_accuracy,
              "Chance that a completion of a right prefix reaches the right answer.");
      v.field("recovered_share", recovered_share,
              "Share of wrong solutions whose error the completer sees and mends, so that its "
              "completions are as good as from a right prefix.");
      v.field("judge_noise", judge_noise, "Chance that the judge is wrong about a step.");
      v.require(num_completions > 0, "num_completions", "must be positive");
      for (const auto& [name, value] : {std::pair{"error_rate", error_rate},
                                        {"completer_accuracy", completer_accuracy},
                                        {"recovered_share", recovered_share},
                                        {"judge_noise", judge_noise}})
        v.require(value >= 0 && value <= 1, name, "must be in [0, 1]");
    }
  };
  explicit ChainSolutions(const Config& config) {
    generate(config.rows, "chain_solutions",
             [&](RandomStream& random) { return row(config, random); });
  }

 private:
  static Example row(const Config& config, RandomStream& random) {
    const int64_t count = random.next_int(config.size.min_terms, config.size.max_terms);
    Example example;
    int64_t said = 0, sum = 0, judged = 0;
    bool wrong = false;
    const bool recovered = random.next() < config.recovered_share;
    std::string shares;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t term = random.next_int(1, config.size.max_term);
      example.prompt.text += (i > 0 ? "+" : "") + std::to_string(term);
      sum += term;
      if (i == 0) {
        said = term;
        continue;
      }
      const int64_t slip = random.next() < config.error_rate ? random.next_int(1, 3) : 0;
      example.completions.push_back(std::to_string(said) + "+" + std::to_string(term) + "=" +
                                    std::to_string(said + term + slip));
      said += term + slip;
      // -100: no label behind the first error.
      example.labels.push_back(wrong ? -100.0 : slip > 0 ? 0.0 : 1.0);
      wrong = wrong || slip > 0;
      int64_t reached = 0;
      for (int64_t k = 0; k < config.num_completions; ++k)
        reached += (!wrong || recovered) && random.next() < config.completer_accuracy;
      shares += (i > 1 ? ", " : "") + std::to_string(static_cast<double>(reached) /
                                                     static_cast<double>(config.num_completions));
      const bool called_wrong = (random.next() < config.judge_noise) != (slip > 0);
      if (called_wrong && judged == 0) judged = i;
    }
    example.prompt.text += "=";
    example.extra["answer"] = std::to_string(sum);
    example.extra["right"] = wrong ? "false" : "true";
    example.extra["monte_carlo"] = "[" + shares + "]";
    example.extra["judge"] = std::to_string(judged);
    return example;
  }
};

MEED_REGISTER(datasets, "chain_solutions", ChainSolutions,
              "Sums worked out step by step with planted errors and noisy labels of steps.");

}  // namespace
}  // namespace meed
