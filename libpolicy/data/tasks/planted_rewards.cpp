#include <cmath>
#include <nlohmann/json.hpp>

#include "libpolicy/data/generated_task.h"

namespace meed {
namespace {

/// Prompts whose ten answers, the digits, have two planted rewards that pull apart (the toy of
/// Transforming and combining rewards): answer k helps by k/9 and is harmless by 1 - k/9, seen
/// through an offset and a scale of each prompt and reward, which are drawn between 1/max_scale and
/// max_scale. Columns are tables for the reward `answer_table`: `helpful` and `harmless` (their
/// medians: `helpful_reference`, `harmless_reference`), what the reward models say; `both_good`, 1
/// where help and harmlessness both reach `threshold`; `improved`, 1 where the answer helps more
/// than the median of answers drawn at random. The prompt tells the group that decides offsets and
/// scales; the completion is drawn at random.
class PlantedRewards final : public GeneratedTask {
 public:
  struct Config {
    GeneratedRows rows;
    int64_t num_groups = 40;
    double max_scale = 4.0, max_offset = 5.0, threshold = 0.4;
    void fields(FieldVisitor& v) {
      rows.fields(v);
      v.field("num_groups", num_groups, "Different prompts.");
      v.field("max_scale", max_scale, "Largest scale of a reward.");
      v.field("max_offset", max_offset, "Largest offset, up or down.");
      v.field("threshold", threshold, "Quality from which an answer is good.");
      v.require(num_groups > 1 && num_groups <= 100, "num_groups", "must be 2 to 100");
      v.require(max_scale >= 1, "max_scale", "must be at least 1");
      v.require(max_offset >= 0, "max_offset", "must not be negative");
    }
  };
  explicit PlantedRewards(const Config& config) {
    generate(config.rows, "planted_rewards",
             [&](RandomStream& random) { return row(config, random); });
  }

 private:
  static Example row(const Config& config, RandomStream& random) {
    const auto group = static_cast<uint64_t>(random.next_int(0, config.num_groups - 1));
    RandomStream fixed(mix_seed({37, group}));
    const auto draw_scale = [&] { return std::pow(config.max_scale, 2.0 * fixed.next() - 1.0); };
    const double help_scale = draw_scale(), harm_scale = draw_scale();
    const double help_offset = config.max_offset * (2.0 * fixed.next() - 1.0);
    const double harm_offset = config.max_offset * (2.0 * fixed.next() - 1.0);
    nlohmann::json helpful, harmless, both, improved;
    for (int64_t k = 0; k < 10; ++k) {
      const auto answer = std::to_string(k);
      const double help = static_cast<double>(k) / 9.0, harm = 1.0 - help;
      // In reward units a whole quality is worth eight: from -4 to 4 about its middle.
      helpful[answer] = help_offset + help_scale * 8.0 * (help - 0.5);
      harmless[answer] = harm_offset + harm_scale * 8.0 * (harm - 0.5);
      both[answer] = help >= config.threshold && harm >= config.threshold ? 1.0 : 0.0;
      improved[answer] = help > 0.5 ? 1.0 : 0.0;
    }
    auto example = plain_row("group " + std::to_string(group) + " ?",
                             " " + std::to_string(random.next_int(0, 9)));
    // Medians over the ten answers.
    example.extra["helpful_reference"] = std::to_string(help_offset);
    example.extra["harmless_reference"] = std::to_string(harm_offset);
    example.extra["helpful"] = helpful.dump();
    example.extra["harmless"] = harmless.dump();
    example.extra["both_good"] = both.dump();
    example.extra["improved"] = improved.dump();
    return example;
  }
};

MEED_REGISTER(datasets, "planted_rewards", PlantedRewards,
              "Ten answers a prompt with two rewards that pull apart.");

}  // namespace
}  // namespace meed
