#include <algorithm>

#include "libpolicy/core/error.h"
#include "libpolicy/text/text_metrics.h"
#include "libreward/functions/columns.h"
#include "libreward/functions/tool_correctness.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// ToolRL (Qian et al. 2025): format (think, tool_call, response: each tag at most once, in order,
/// as the reference implies) plus correctness of the calls, with the switches and schedules that
/// the paper compares. The step of a schedule is that of the policy that sampled the completion.
class ToolCallReward final : public PointwiseReward {
 public:
  struct Config {
    std::string answer_column = "tool_calls";
    std::string match = "fine";
    std::string response = "optional";
    double max_correctness = 3.0;
    std::string schedule = "none";
    int64_t schedule_steps = 150;
    bool length_reward = false;
    int64_t length_words = 512, length_steps = 105;
    std::optional<int64_t> length_words_final;
    void fields(FieldVisitor& v) {
      v.field("answer_column", answer_column,
              "Column with the right calls: a JSON list of {name, parameters}; empty or []: none.");
      v.choice("match", match, {"fine", "intermediate", "coarse", "strict"},
               "fine: names, keys and values count; intermediate: whole calls; coarse: all or "
               "nothing; strict: names and keys must be exact.");
      v.choice("response", response, {"optional", "required", "forbidden"},
               "Whether a <response> block belongs to the right form.");
      v.field("max_correctness", max_correctness, "Correctness lies in [-max, max].");
      v.choice("schedule", schedule, {"none", "two_stage", "linear"},
               "two_stage: a third of the correctness before schedule_steps; linear: format from 2 "
               "to 1 and correctness from 2/3 to 1 of their scale.");
      v.field("schedule_steps", schedule_steps, "Steps of the schedule; the paper: 30 and 150.");
      v.field("length_reward", length_reward,
              "Add min(1, words of the think block / length_words).");
      v.field("length_words", length_words, "Words of the think block for the whole reward.");
      v.field("length_words_final", length_words_final,
              "The same from step length_steps on, rising evenly to it (the paper: 384 to 640); "
              "null: length_words.");
      v.field("length_steps", length_steps, "Steps of that rise.");
      v.require(max_correctness > 0, "max_correctness", "must be positive");
      v.require(schedule_steps > 0, "schedule_steps", "must be positive");
      v.require(length_words > 0, "length_words", "must be positive");
      v.require(!length_words_final || *length_words_final > 0, "length_words_final",
                "must be positive, or null");
      v.require(length_steps > 0, "length_steps", "must be positive");
    }
  };
  explicit ToolCallReward(const Config& config)
      : config_(config),
        match_(config.match == "fine"           ? ToolMatch::kFine
               : config.match == "intermediate" ? ToolMatch::kIntermediate
               : config.match == "coarse"       ? ToolMatch::kCoarse
                                                : ToolMatch::kStrict) {}

 private:
  std::vector<ToolCall> wanted_calls(const Example& example) const {
    const auto& text = column(example, config_.answer_column, "tool_call");
    if (is_blank(text)) return {};
    auto calls = parse_tool_calls(text);
    if (!calls)
      throw DataError("row " + std::to_string(example.row + 1) + ": column \"" +
                      config_.answer_column +
                      "\" holds no tool calls: expected a JSON list of "
                      "{\"name\", \"parameters\"}");
    return *calls;
  }

  Score score_one(const Example& example, const Completion& completion) override {
    const auto wanted = wanted_calls(example);
    const std::string& text = completion.text;
    const int64_t step = completion.policy_version;
    Score score;
    const bool format = has_form(text, !wanted.empty());
    double correctness = 0.0;
    if (!wanted.empty()) {
      const auto block = only_block(text, "tool_call");
      const auto given = block ? parse_tool_calls(*block) : std::nullopt;
      if (!block)
        score.unreadable =
            text.find("tool_call>") == std::string::npos ? "no_tool_call" : "unbalanced_tags";
      else if (!given)
        score.unreadable = "malformed_tool_call";
      correctness = given ? tool_correctness(*given, wanted, match_, config_.max_correctness)
                          : -config_.max_correctness;
    }
    score.parts = {{"format", format ? 1.0 : 0.0},
                   {"correctness", correctness},
                   {"exact", correctness == config_.max_correctness ? 1.0 : 0.0}};
    score.value = format_scale(step) * (format ? 1.0 : 0.0) + correctness_scale(step) * correctness;
    if (config_.length_reward) {
      const auto think = only_block(text, "think");
      const auto words = think ? tokenize_13a(*think).size() : 0;
      score.parts["length"] = std::min(1.0, static_cast<double>(words) / target_words(step));
      score.value += score.parts["length"];
    }
    return score;
  }

  /// The blocks that must stand there, each once, one after the other, with nothing between.
  bool has_form(std::string_view text, bool calls) const {
    const bool has_response = text.find("<response>") != std::string_view::npos;
    if (has_response ? config_.response == "forbidden" : config_.response == "required")
      return false;
    std::vector<std::string> tags = {"think"};
    if (calls) tags.push_back("tool_call");
    if (has_response) tags.push_back("response");
    size_t at = 0;
    for (const auto& tag : tags) {
      const auto block = only_block(text, tag);
      if (!block) return false;
      const auto begin = static_cast<size_t>(block->data() - text.data()) - tag.size() - 2;
      if (begin < at || !is_blank(text.substr(at, begin - at))) return false;
      at = begin + 2 * tag.size() + 5 + block->size();
    }
    return is_blank(text.substr(at)) &&
           (calls || text.find("<tool_call>") == std::string_view::npos);
  }

  static double progress(int64_t step, int64_t steps) {
    return std::min(1.0, static_cast<double>(step) / static_cast<double>(steps));
  }
  double format_scale(int64_t step) const {
    return config_.schedule == "linear" ? 2.0 - progress(step, config_.schedule_steps) : 1.0;
  }
  double correctness_scale(int64_t step) const {
    const double done = progress(step, config_.schedule_steps);
    if (config_.schedule == "linear") return (2.0 + done) / 3.0;
    if (config_.schedule == "two_stage") return done < 1.0 ? 1.0 / 3.0 : 1.0;
    return 1.0;
  }
  double target_words(int64_t step) const {
    const auto first = static_cast<double>(config_.length_words);
    const auto last =
        static_cast<double>(config_.length_words_final.value_or(config_.length_words));
    return first + (last - first) * progress(step, config_.length_steps);
  }

  Config config_;
  ToolMatch match_;
};

MEED_REGISTER(reward_functions, "tool_call", ToolCallReward,
              "Format and graded correctness of tool calls (ToolRL).");

}  // namespace
}  // namespace meed
