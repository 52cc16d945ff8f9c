#include "libpolicy/data/generated_task.h"
#include "libpolicy/data/tasks/chain_size.h"

namespace meed {
namespace {

/// Sums that are worked out step by step (the toy of Gao et al. 2024, On designing effective RL
/// reward at training time): prompt "3+5+2=", completion "3+5=8;8+2=10;#10". With `useless_rate` a
/// worked solution now and then says something true that leads nowhere, such as "1+1=2".
class ChainSums final : public GeneratedTask {
 public:
  struct Config {
    GeneratedRows rows;
    ChainSize size{.min_terms = 3, .max_terms = 4};
    double useless_rate = 0.0, error_rate = 0.0, direct_rate = 0.0;
    void fields(FieldVisitor& v) {
      rows.fields(v);
      size.fields(v);
      v.field("useless_rate", useless_rate,
              "Chance that a true but useless step stands before a step of the completion.");
      v.field("error_rate", error_rate, "Chance that a step of the completion is wrong.");
      v.field("direct_rate", direct_rate, "Chance that the completion is the answer alone.");
      v.require(direct_rate >= 0 && direct_rate <= 1, "direct_rate", "must be in [0, 1]");
      v.require(useless_rate >= 0 && useless_rate < 1, "useless_rate", "must be in [0, 1)");
      v.require(error_rate >= 0 && error_rate < 1, "error_rate", "must be in [0, 1)");
    }
  };
  explicit ChainSums(const Config& config) {
    generate(config.rows, "chain_sums", [&](RandomStream& random) { return row(config, random); });
  }

 private:
  static std::string step(int64_t a, int64_t b, int64_t c) {
    return std::to_string(a) + "+" + std::to_string(b) + "=" + std::to_string(c) + ";";
  }

  static Example row(const Config& config, RandomStream& random) {
    const int64_t count = random.next_int(config.size.min_terms, config.size.max_terms);
    std::string prompt, completion, terms;
    int64_t sum = 0, said = 0;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t term = random.next_int(1, config.size.max_term);
      prompt += (i > 0 ? "+" : "") + std::to_string(term);
      terms += (i > 0 ? " " : "") + std::to_string(term);
      if (i > 0) {
        if (random.next() < config.useless_rate) {
          const int64_t a = random.next_int(1, 9), b = random.next_int(1, 9);
          completion += step(a, b, a + b);
        }
        const int64_t slip = random.next() < config.error_rate ? random.next_int(1, 3) : 0;
        completion += step(said, term, said + term + slip);
        said += term + slip;
      } else {
        said = term;
      }
      sum += term;
    }
    if (random.next() < config.direct_rate) completion.clear();
    auto example = plain_row(prompt + "=", completion + "#" + std::to_string(said));
    example.extra["answer"] = std::to_string(sum);
    example.extra["terms"] = terms;
    return example;
  }
};

MEED_REGISTER(datasets, "chain_sums", ChainSums, "Sums worked out step by step.");

}  // namespace
}  // namespace meed
