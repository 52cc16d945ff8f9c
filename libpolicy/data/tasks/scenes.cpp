#include <algorithm>
#include <array>

#include "libpolicy/data/generated_task.h"

namespace meed {
namespace {

/// Small scenes told in words, with questions of two kinds (the toy of WeThink): how many objects
/// have a colour or shape (a rule can check it; column `reward`: rule), and a description of the
/// scene (a judge compares it with `reference`; `reward`: model). The completion thinks and
/// answers; with `error_rate` a count is off by one or an object of the description is left out.
class Scenes final : public GeneratedTask {
 public:
  struct Config {
    GeneratedRows rows;
    int64_t min_objects = 2, max_objects = 4;
    double open_share = 0.5, error_rate = 0.0, hedge_rate = 0.0;
    void fields(FieldVisitor& v) {
      rows.fields(v);
      v.field("min_objects", min_objects, "Fewest objects of a scene.");
      v.field("max_objects", max_objects, "Most.");
      v.field("open_share", open_share, "Share of rows that ask for a description.");
      v.field("error_rate", error_rate,
              "Chance of a mistake in the completion: of the count, or of "
              "each object described.");
      v.field("hedge_rate", hedge_rate,
              "Chance that the completion names two numbers, one of them the right one.");
      v.require(hedge_rate >= 0 && hedge_rate <= 1, "hedge_rate", "must be in [0, 1]");
      v.require(min_objects > 0 && max_objects >= min_objects && max_objects <= 9, "max_objects",
                "must be min_objects to 9");
      v.require(open_share >= 0 && open_share <= 1, "open_share", "must be in [0, 1]");
      v.require(error_rate >= 0 && error_rate <= 1, "error_rate", "must be in [0, 1]");
    }
  };
  explicit Scenes(const Config& config) {
    generate(config.rows, "scenes", [&](RandomStream& random) { return row(config, random); });
  }

 private:
  static Example row(const Config& config, RandomStream& random) {
    static constexpr std::array kColours = {"red", "blue", "green", "white"};
    static constexpr std::array kShapes = {"circle", "square", "star", "cross"};
    std::vector<std::string> objects, told;
    const bool by_colour = random.next() < 0.5;
    const std::string colour = pick(kColours, random), shape = pick(kShapes, random);
    int64_t count = 0;
    for (int64_t n = random.next_int(config.min_objects, config.max_objects); n > 0; --n) {
      const std::string c = pick(kColours, random), s = pick(kShapes, random);
      objects.push_back(c + " " + s);
      count += by_colour ? c == colour : s == shape;
      if (random.next() >= config.error_rate) told.push_back(objects.back());
    }
    const bool open = random.next() < config.open_share;
    const std::string question = open ? "describe" : "count " + (by_colour ? colour : shape);
    int64_t said = count;
    if (!open && random.next() < config.error_rate)
      said = count > 0 && random.next() < 0.5 ? count - 1 : count + 1;
    std::string answer = open ? joined(told, " and ") : std::to_string(said);
    if (!open && random.next() < config.hedge_rate)
      answer = random.next() < 0.5
                   ? std::to_string(count) + " " + std::to_string(count + 1)
                   : std::to_string(std::max<int64_t>(0, count - 1)) + " " + std::to_string(count);
    auto example = plain_row(joined(objects, " , ") + " . " + question + " ?",
                             "<think> " + std::string(open ? "describe" : "count") +
                                 " </think><answer> " + answer + " </answer>");
    example.extra["reward"] = open ? "model" : "rule";
    example.extra["kind"] = open ? "open" : "count";
    example.extra["answer"] = open ? joined(objects, " and ") : std::to_string(count);
    example.extra["reference"] = example.extra["answer"];
    return example;
  }
};

MEED_REGISTER(datasets, "scenes", Scenes, "Scenes in words: objects to count or to describe.");

}  // namespace
}  // namespace meed
