#include <algorithm>

#include "libpolicy/core/error.h"
#include "libpolicy/core/random.h"
#include "libpolicy/text/placeholders.h"
#include "libreward/curation/wrapped_dataset.h"
#include "libreward/functions/columns.h"

namespace meed {
namespace {

/// LongRM's judgements from pairs: each pair gives two rows to judge, prompt and one side. Several
/// judges, each right with a given probability, say good or bad; the verdict that most of them
/// share makes the better judgement, the other one the worse ones (a tie is decided by the pair's
/// label). A judgement may begin with an explanation: a column of the row for the better one,
/// another for the worse ones, who misread the context. Rows serve sft (`completion`) and logo
/// (`chosen`, `completions`).
class PointwiseJudgements final : public ListDataset {
 public:
  struct Config {
    std::optional<ConfigNode> data;
    int64_t num_judges = 5, num_negatives = 2, seed = 0;
    double judge_accuracy = 1.0;
    std::string question = "\nIs the answer right?", good = " yes", bad = " no";
    std::string explanation = " {text}, so";
    std::optional<std::string> explanation_column, mistake_column;
    void fields(FieldVisitor& v) {
      v.component("data", data, datasets(), "Preference rows with plain prompts.");
      v.required("data");
      v.field("num_judges", num_judges, "Judges of each row.");
      v.field("judge_accuracy", judge_accuracy, "Probability that a judge is right.");
      v.field("num_negatives", num_negatives, "Worse judgements of a row.");
      v.field("question", question, "What stands between a response and its judgement.");
      v.field("good", good, "Judgement of a good response.");
      v.field("bad", bad, "Judgement of a bad one.");
      v.field("explanation", explanation, "Form of an explanation, {text} is the column's.");
      v.field("explanation_column", explanation_column,
              "Column with what the better judgement says first; null: verdicts alone.");
      v.field("mistake_column", mistake_column, "Column with what the worse ones say first.");
      v.require(explanation_column.has_value() == mistake_column.has_value(), "mistake_column",
                "goes with explanation_column");
      v.field("seed", seed, "Seed of the judges.");
      v.require(num_judges > 0 && num_negatives > 0, "num_judges",
                "and num_negatives must be positive");
      v.require(judge_accuracy >= 0 && judge_accuracy <= 1, "judge_accuracy", "must be in [0, 1]");
      v.require(good != bad && !good.empty() && !bad.empty(), "good",
                "and bad must differ, and not be empty");
      v.require(seed >= 0, "seed", "must not be negative");
    }
  };
  PointwiseJudgements(const Config& config, RunContext& context) {
    const auto source = datasets().create(*config.data, context);
    for (int64_t i = 0; i < source->size(); ++i) {
      const auto example = source->get(i);
      require_pair(example, "pointwise_judgements");
      for (const bool good : {true, false}) {
        RandomStream random(mix_seed({static_cast<uint64_t>(config.seed), static_cast<uint64_t>(i),
                                      good ? uint64_t{1} : uint64_t{0}}));
        int64_t votes = 0;
        for (int64_t judge = 0; judge < config.num_judges; ++judge)
          votes += good == (random.next() < config.judge_accuracy);
        const bool verdict = 2 * votes == config.num_judges ? good : 2 * votes > config.num_judges;
        Example row;
        row.extra = example.extra;
        row.prompt.text = as_text(example.prompt, "\n") +
                          as_text(good ? example.chosen : example.rejected, "\n") + config.question;
        row.chosen.text = row.completion.text =
            explained(config, config.explanation_column, example) +
            (verdict ? config.good : config.bad);
        row.rejected.text = explained(config, config.mistake_column, example) +
                            (verdict ? config.bad : config.good);
        row.completions.assign(static_cast<size_t>(config.num_negatives), row.rejected.text);
        row.extra["gold"] = good ? "1" : "0";
        rows_.push_back(std::move(row));
      }
    }
  }

 private:
  static std::string explained(const Config& config, const std::optional<std::string>& name,
                               const Example& example) {
    if (!name) return "";
    return fill_placeholders(config.explanation,
                             {{"text", column(example, *name, "pointwise_judgements")}});
  }
};

MEED_REGISTER(datasets, "pointwise_judgements", PointwiseJudgements,
              "Judgements of each side of pairs, by several judges.");

}  // namespace
}  // namespace meed
