#include "libpolicy/text/text_metrics.h"
#include "libreward/functions/columns.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// Overlap of the answer with one or more references (BLEUBERI, Chang et al. 2025): the text inside
/// <answer> where there is such a block, else the whole completion.
class TextOverlap final : public PointwiseReward {
 public:
  struct Config {
    std::string metric = "bleu";
    std::string bleu_style = "hf_smooth";
    std::string reference_column = "reference";
    std::string answer_tag = "answer";
    void fields(FieldVisitor& v) {
      v.choice(
          "metric", metric, {"bleu", "rouge_l", "chrf", "bleu_rouge", "token_f1"},
          "token_f1: of the bags of words; bleu_rouge: the harmonic mean of BLEU and ROUGE-L.");
      v.choice("bleu_style", bleu_style, {"hf_smooth", "sacre_exp", "sacre_exp_effective"},
               "hf_smooth: (m+1)/(t+1), shortest reference; sacre_exp: sacreBLEU's smoothing, "
               "closest reference; sacre_exp_effective: its sentence_bleu.");
      v.field("reference_column", reference_column, "Column with a text, or a list of texts.");
      v.field("answer_tag", answer_tag, "Only the inside of this tag counts, where it stands.");
    }
  };
  explicit TextOverlap(const Config& config) : config_(config) {}

 private:
  Score score_one(const Example& example, const Completion& completion) override {
    const auto references = texts_of(column(example, config_.reference_column, "text_overlap"));
    const auto answer = only_block(completion.text, config_.answer_tag);
    const std::string_view text = answer ? *answer : std::string_view(completion.text);
    Score score{.value = value(text, references)};
    if (is_blank(text)) score.unreadable = "empty";
    return score;
  }

  double value(std::string_view text, const std::vector<std::string>& references) const {
    if (config_.metric == "chrf") return chrf(text, references);
    if (config_.metric == "token_f1") return token_f1(text, references);
    if (config_.metric == "rouge_l") return rouge_l(text, references);
    const auto style = config_.bleu_style == "hf_smooth"   ? BleuStyle::kHfSmooth
                       : config_.bleu_style == "sacre_exp" ? BleuStyle::kSacreExp
                                                           : BleuStyle::kSacreExpEffective;
    const double bleu = sentence_bleu(text, references, style);
    if (config_.metric == "bleu") return bleu;
    const double rouge = rouge_l(text, references);
    return bleu + rouge > 0 ? 2.0 * bleu * rouge / (bleu + rouge) : 0.0;
  }

  Config config_;
};

MEED_REGISTER(reward_functions, "text_overlap", TextOverlap,
              "BLEU, ROUGE-L or chrF with references.");

}  // namespace
}  // namespace meed
