#include "libreward/data/opinion_features.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

namespace meed {
namespace {

using Sentence = std::vector<std::string>;

std::vector<Sentence> sentences_of(std::string_view text) {
  std::vector<Sentence> sentences(1);
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) sentences.back().push_back(std::move(word));
    word.clear();
  };
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) || c == '\'' || byte >= 0x80) {
      word += static_cast<char>(std::tolower(byte));
      continue;
    }
    end_word();
    if ((c == '.' || c == '!' || c == '?') && !sentences.back().empty()) sentences.emplace_back();
  }
  end_word();
  if (sentences.back().empty()) sentences.pop_back();
  return sentences;
}

bool holds(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// Aspect -> praise less blame over the sentences that name it.
std::map<std::string, int> opinions_of(const std::vector<Sentence>& sentences,
                                       const OpinionLexicon& lexicon) {
  std::map<std::string, int> opinions;
  for (const auto& sentence : sentences) {
    int polarity = 0;
    for (const auto& word : sentence)
      polarity += holds(lexicon.positive, word) - holds(lexicon.negative, word);
    for (const auto& word : sentence)
      if (holds(lexicon.aspects, word)) opinions[word] += polarity;
  }
  return opinions;
}

double share(double part, double whole, double of_nothing) {
  return whole > 0.0 ? part / whole : of_nothing;
}

/// 1 less the share of word pairs that stood before.
double variety(const std::vector<Sentence>& sentences) {
  std::set<std::pair<std::string, std::string>> seen;
  double pairs = 0.0, repeated = 0.0;
  for (const auto& sentence : sentences)
    for (size_t i = 1; i < sentence.size(); ++i) {
      pairs += 1.0;
      repeated += !seen.emplace(sentence[i - 1], sentence[i]).second;
    }
  return 1.0 - share(repeated, pairs, 0.0);
}

}  // namespace

const OpinionLexicon& product_lexicon() {
  static const OpinionLexicon lexicon = {
      {"battery", "screen", "camera", "price", "sound", "design", "speed", "service"},
      {"great", "good", "excellent", "lovely"},
      {"bad", "poor", "awful", "weak"}};
  return lexicon;
}

OpinionFeatures opinion_features(const std::vector<std::string>& reviews, std::string_view summary,
                                 const OpinionLexicon& lexicon) {
  std::vector<Sentence> read;
  for (const auto& review : reviews) {
    const auto sentences = sentences_of(review);
    read.insert(read.end(), sentences.begin(), sentences.end());
  }
  const auto written = sentences_of(summary);
  const auto theirs = opinions_of(read, lexicon), own = opinions_of(written, lexicon);
  std::set<std::string> known;
  for (const auto& sentence : read) known.insert(sentence.begin(), sentence.end());

  OpinionFeatures features;
  double covered = 0.0, held = 0.0, stated = 0.0, opinions = 0.0, faithful = 0.0;
  for (const auto& [aspect, polarity] : theirs) {
    const auto mine = own.find(aspect);
    covered += mine != own.end();
    held += polarity != 0;
    stated += polarity != 0 && mine != own.end() && mine->second * polarity > 0;
  }
  for (const auto& [aspect, polarity] : own) {
    if (polarity == 0) continue;
    const auto real = theirs.find(aspect);
    opinions += 1.0;
    faithful += real != theirs.end() && real->second * polarity > 0;
  }
  double words = 0.0, unknown = 0.0, relevant = 0.0;
  for (const auto& sentence : written) {
    words += static_cast<double>(sentence.size());
    for (const auto& word : sentence) unknown += !known.contains(word);
    relevant += std::any_of(sentence.begin(), sentence.end(),
                            [&](const auto& word) { return holds(lexicon.aspects, word); });
  }
  features.aspect_coverage = share(covered, static_cast<double>(theirs.size()), 1.0);
  features.opinion_faithfulness = share(faithful, opinions, 1.0);
  features.opinion_coverage = share(stated, held, 1.0);
  constexpr double kWordsPerAspect = 3.0;
  const double room = kWordsPerAspect * static_cast<double>(std::max<size_t>(theirs.size(), 1));
  features.conciseness = words <= room ? 1.0 : room / words;
  features.relevance = share(relevant, static_cast<double>(written.size()), 0.0);
  features.hallucination = share(unknown, words, 0.0);
  features.language_correctness = variety(written);
  return features;
}

}  // namespace meed
