#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace meed {

/// The words that opinions on a product are made of: aspects, and what is said of them.
struct OpinionLexicon {
  std::vector<std::string> aspects, positive, negative;
};
/// The lexicon of the generator opinion_summaries: eight aspects.
const OpinionLexicon& product_lexicon();

/// What a summary of opinions does well or badly, by rules (Domain knowledge for reward modelling
/// in e-commerce opinion summarisation; the rules are our choice): seven numbers in [0, 1].
struct OpinionFeatures {
  double aspect_coverage = 0.0;  ///< share of the reviews' aspects that the summary names
  double opinion_faithfulness =
      0.0;  ///< share of its opinions that agree with the reviews' majority; 1 without any
  double opinion_coverage = 0.0;      ///< share of the reviews' majority opinions that it states
  double conciseness = 0.0;           ///< 1 up to three words an aspect, less by length beyond
  double relevance = 0.0;             ///< share of its sentences that name an aspect; 0 without any
  double hallucination = 0.0;         ///< share of its words that stand in no review
  double language_correctness = 0.0;  ///< 1 less the share of repeated word pairs
  std::array<double, 7> values() const {
    return {aspect_coverage, opinion_faithfulness, opinion_coverage,    conciseness,
            relevance,       hallucination,        language_correctness};
  }
};

/// Sentences end with a full stop; an opinion is an aspect and a word of praise or blame in one
/// sentence. Words are compared in lower case, without punctuation. Any text has features.
OpinionFeatures opinion_features(const std::vector<std::string>& reviews, std::string_view summary,
                                 const OpinionLexicon& lexicon = product_lexicon());

}  // namespace meed
