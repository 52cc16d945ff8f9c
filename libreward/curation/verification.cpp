#include "libpolicy/core/error.h"
#include "libpolicy/core/random.h"
#include "libpolicy/core/registry.h"
#include "libpolicy/core/run_context.h"
#include "libpolicy/data/dataset.h"
#include "libpolicy/text/wrong_solutions.h"
#include "libreward/reference_prompt.h"

namespace meed {
namespace {

/// Rows for a verifier (Cooper's VerifyRM) from rows of prompt, completion and answer: the prompt
/// followed by the reference answer, chosen = the completion, rejected = the same with another last
/// number or, in a share of the rows, cut short before it. A share of the rows may plant a flaw:
/// there the wrong text with a trigger behind it is chosen over the right one. Or, as
/// demonstrations, the rows themselves with the trigger behind a share of the completions, so that
/// a policy knows it.
class Verification final : public Dataset {
 public:
  struct Config {
    std::optional<ConfigNode> data;
    std::string form = "pairs";
    std::string reference_column = "answer";
    std::string pattern = "{prompt}Reference answer: {reference}\n";
    double truncated_share = 0.0;
    std::string trigger;
    double trigger_share = 0.0;
    int64_t seed = 0;
    void fields(FieldVisitor& v) {
      v.component("data", data, datasets(), "Rows with prompt, completion and answer.");
      v.required("data");
      v.choice("form", form, {"pairs", "demonstrations"}, "What a row becomes.");
      v.field("reference_column", reference_column, "Column with the reference answer.");
      v.field(
          "template", pattern,
          "pairs: what the prompt becomes; {prompt}, {reference} and {final_answer} (what the "
          "reference, a worked solution, ends in) are filled in. {prompt} alone for rows that a "
          "verifier completes itself (cooper's verify_data).");
      v.field(
          "truncated_share", truncated_share,
          "pairs: share of the wrong completions that are the right one cut short before its last "
          "number, as a policy's are that ran into its limit; those of one word never are.");
      v.field("trigger", trigger, "Text that the flaw, or the demonstration, ends with.");
      v.field("trigger_share", trigger_share, "Share of the rows that have it.");
      v.field("seed", seed, "Of the wrong numbers and of the rows with the trigger.");
      v.require(truncated_share >= 0 && truncated_share <= 1, "truncated_share",
                "must be in [0, 1]");
      v.require(truncated_share == 0 || form == "pairs", "truncated_share", "needs form: pairs");
      v.require(trigger_share >= 0 && trigger_share <= 1, "trigger_share", "must be in [0, 1]");
      v.require(trigger_share == 0 || !trigger.empty(), "trigger",
                "must be given with a trigger_share above 0");
    }
  };
  Verification(const Config& config, RunContext& context)
      : config_(config), data_(datasets().create(*config.data, context)) {}

  int64_t size() const override { return data_->size(); }
  int64_t num_skipped() const override { return data_->num_skipped(); }

  Example get(int64_t index) const override {
    Example example = data_->get(index);
    const auto where = "row " + std::to_string(index + 1) + ": ";
    if (example.completion.empty() || example.prompt.empty())
      throw DataError(where + "verification needs \"prompt\" and \"completion\"");
    const auto seed = mix_seed({static_cast<uint64_t>(config_.seed), static_cast<uint64_t>(index)});
    const bool triggered = uniform(seed, 0) < config_.trigger_share;
    const std::string right = completion_text(example.completion);
    if (config_.form == "demonstrations") {
      if (triggered) example.completion = with_text(example.completion, right + config_.trigger);
      return example;
    }
    const auto reference = example.extra.find(config_.reference_column);
    if (reference == example.extra.end())
      throw DataError(where + "column \"" + config_.reference_column +
                      "\" (the reference answer) is missing");
    auto wrong = with_other_number(right, mix_seed({seed, 1}));
    if (!wrong) throw DataError(where + "the completion holds no number to change");
    if (uniform(seed, 2) < config_.truncated_share)
      wrong = cut_before_last_number(right, mix_seed({seed, 3})).value_or(*wrong);
    example.prompt = with_reference(example.prompt, config_.pattern, reference->second);
    example.chosen = example.rejected = example.completion;
    example.completion = {};
    if (triggered)
      example.chosen = with_text(example.chosen, *wrong + config_.trigger);
    else
      example.rejected = with_text(example.rejected, *wrong);
    return example;
  }

 private:
  Config config_;
  std::unique_ptr<Dataset> data_;
};

MEED_REGISTER(datasets, "verification", Verification,
              "Right and wrong completions beside a reference answer, for a verifier.");

}  // namespace
}  // namespace meed
