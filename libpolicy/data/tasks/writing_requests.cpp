#include <algorithm>
#include <array>
#include <numeric>

#include "libpolicy/data/generated_task.h"

namespace meed {
namespace {

constexpr std::array kSubjects = {"cat",    "dog",    "bird",  "horse", "child", "teacher",
                                  "farmer", "doctor", "robot", "king",  "queen", "sailor"};
constexpr std::array kPlaces = {"park", "house",  "river",  "garden",
                                "city", "school", "market", "forest"};
using Words = std::array<const char*, 3>;  // what the prompt says, and two ways to write it
constexpr std::array<Words, 6> kActions = {{{"walk", "walks", "strolls"},
                                            {"sing", "sings", "hums"},
                                            {"read", "reads", "studies"},
                                            {"sleep", "sleeps", "rests"},
                                            {"work", "works", "labours"},
                                            {"play", "plays", "frolics"}}};
constexpr std::array<Words, 4> kMoods = {{{"happy", "happy", "glad"},
                                          {"sad", "sad", "gloomy"},
                                          {"calm", "calm", "quiet"},
                                          {"busy", "busy", "active"}}};
constexpr std::array kStyles = {"plain", "place", "free", "there", "nobody"};

/// One sentence of a style. The two bits of `way` choose among ways to write action and mood.
std::string sentence(size_t style, const std::string& subject, const std::string& place,
                     const Words& action, const Words& mood, uint64_t way) {
  const std::string acts = action[1 + (way & 1)], feels = mood[1 + (way >> 1 & 1)];
  switch (style) {
    case 0:
      return "the " + subject + " " + acts + " in the " + place + " and is " + feels + " today .";
    case 1:
      return "in the " + place + " the " + subject + " " + acts + " and feels " + feels + " .";
    case 2:
      return feels + " and free , the " + subject + " " + acts + " through the " + place + " .";
    case 3:
      return "there is a " + subject + " that " + acts + " near the " + place + " , " + feels +
             " as ever .";
    default:
      return "nobody in the " + place + " " + acts + " like the " + feels + " " + subject + " .";
  }
}

/// Requests for a sentence in one of five styles, with references that use other words for the same
/// (the toy of BLEUBERI): "write plain cat park walk happy ?". The column `reference` is a list of
/// num_references. With `error_rate` each word of the completion is lost or another one. mode: pair
/// gives a better and a worse text as chosen and rejected.
class WritingRequests final : public GeneratedTask {
 public:
  struct Config {
    GeneratedRows rows;
    std::string mode = "answer";
    std::vector<std::string> styles = {"plain", "place", "free", "there", "nobody"};
    int64_t num_references = 1;
    double error_rate = 0.0;
    void fields(FieldVisitor& v) {
      rows.fields(v);
      v.choice("mode", mode, {"answer", "pair"}, "What a row holds.");
      v.field("styles", styles, "plain, place, free, there, nobody.");
      v.field("num_references", num_references, "References of a row, 1 to 5.");
      v.field("error_rate", error_rate,
              "Chance that a word is lost or another one; the rejected text of a pair has two such "
              "words more than the chosen one.");
      v.require(!styles.empty(), "styles", "must name a style");
      for (const auto& style : styles)
        v.require(std::find(kStyles.begin(), kStyles.end(), style) != kStyles.end(), "styles",
                  "has no style \"" + style + "\"");
      v.require(num_references >= 1 && num_references <= 5, "num_references", "must be 1 to 5");
      v.require(error_rate >= 0 && error_rate < 1, "error_rate", "must be in [0, 1)");
    }
  };
  explicit WritingRequests(const Config& config) {
    generate(config.rows, "writing_requests",
             [&](RandomStream& random) { return row(config, random); });
  }

 private:
  /// A text in which `count` words are lost or another one.
  static std::string damaged(const std::string& text, size_t count, RandomStream& random) {
    auto words = split(text);
    std::vector<size_t> places(words.size());
    std::iota(places.begin(), places.end(), size_t{0});
    for (const size_t place : sample_of(places, count, random))
      words[place] = random.next() < 0.5 ? "" : pick(kSubjects, random);
    std::erase(words, "");
    return joined(words, " ");
  }

  static std::vector<std::string> split(const std::string& text) {
    std::vector<std::string> words;
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find(' ', at), text.size());
      words.push_back(text.substr(at, end - at));
      at = end + 1;
    }
    return words;
  }

  static Example row(const Config& config, RandomStream& random) {
    const auto& name = pick(config.styles, random);
    size_t style = 0;
    while (name != kStyles[style]) ++style;
    const std::string subject = pick(kSubjects, random), place = pick(kPlaces, random);
    const auto& action = pick(kActions, random);
    const auto& mood = pick(kMoods, random);
    const auto write = [&](uint64_t way) {
      return sentence(style, subject, place, action, mood, way);
    };
    std::vector<std::string> references;
    const auto first = static_cast<uint64_t>(random.next_int(0, 3));
    for (int64_t i = 0; i < config.num_references; ++i)
      references.push_back(write(first + static_cast<uint64_t>(i)));
    const std::string clean = write(static_cast<uint64_t>(random.next_int(0, 3)));
    size_t errors = 0;
    for (size_t word = split(clean).size(); word > 0; --word)
      errors += random.next() < config.error_rate;
    auto example = plain_row(
        "write " + name + " " + subject + " " + place + " " + action[0] + " " + mood[0] + " ?",
        " " + damaged(clean, errors, random));
    example.extra["reference"] = json_list(references);
    example.extra["style"] = name;
    if (config.mode == "pair") {
      example.chosen.text = example.completion.text;
      const std::string other = write(static_cast<uint64_t>(random.next_int(0, 3)));
      example.rejected.text = " " + damaged(other, errors + 2, random);
      example.completion = {};
    }
    return example;
  }
};

MEED_REGISTER(datasets, "writing_requests", WritingRequests,
              "Requests for a sentence, with references in other words.");

}  // namespace
}  // namespace meed
