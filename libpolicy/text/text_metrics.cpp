#include "libpolicy/text/text_metrics.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <unordered_map>

#include "libpolicy/text/text_pattern.h"
#include "libpolicy/text/unicode.h"

namespace meed {
namespace {

constexpr size_t kMaxBleuOrder = 4;
constexpr size_t kMaxChrfOrder = 6;
constexpr size_t kMaxRougeWords = 4096;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_stop(char c) { return c == '.' || c == ','; }
/// ASCII punctuation and space, less ' , - .
bool is_mark(char c) {
  return (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') || (c >= ':' && c <= '@') || c == '/' ||
         (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

/// Rewrites pairs of neighbours where `matches` says so; a matched pair is not looked at again.
template <typename Matches, typename Write>
std::string rewrite_pairs(const std::string& text, Matches matches, Write write) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i + 1 < text.size() && matches(text[i], text[i + 1])) {
      write(result, text[i], text[i + 1]);
      ++i;
    } else {
      result += text[i];
    }
  }
  return result;
}

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    if (unicode::is_space(unicode::next(text, at))) {
      if (!word.empty()) words.push_back(std::move(word));
      word.clear();
    } else {
      word += text.substr(begin, at - begin);
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

using Words = std::vector<std::string>;

struct BleuStatistics {
  double matches[kMaxBleuOrder] = {}, totals[kMaxBleuOrder] = {};
};

BleuStatistics bleu_statistics(const Words& words, const std::vector<Words>& references) {
  BleuStatistics result;
  for (size_t n = 0; n < kMaxBleuOrder; ++n) {
    std::map<std::string, int64_t> most;
    for (const auto& reference : references)
      for (const auto& [ngram, count] : count_ngrams(reference, n + 1))
        most[ngram] = std::max(most[ngram], count);
    for (const auto& [ngram, count] : count_ngrams(words, n + 1)) {
      const auto found = most.find(ngram);
      if (found != most.end())
        result.matches[n] += static_cast<double>(std::min(count, found->second));
      result.totals[n] += static_cast<double>(count);
    }
  }
  return result;
}

double smoothed_precision(const BleuStatistics& counts) {
  double sum = 0.0;
  for (size_t n = 0; n < kMaxBleuOrder; ++n)
    sum += std::log((counts.matches[n] + 1.0) / (counts.totals[n] + 1.0));
  return std::exp(sum / static_cast<double>(kMaxBleuOrder));
}

double sacre_precision(const BleuStatistics& counts, bool effective) {
  if (std::all_of(counts.matches, counts.matches + kMaxBleuOrder,
                  [](double m) { return m == 0.0; }))
    return 0.0;
  double sum = 0.0, halving = 1.0;
  size_t orders = 0;
  for (; orders < kMaxBleuOrder && counts.totals[orders] > 0; ++orders) {
    double precision = counts.matches[orders] / counts.totals[orders];
    if (precision == 0.0) precision = 1.0 / ((halving *= 2.0) * counts.totals[orders]);
    sum += std::log(precision);
  }
  // An order without n-grams has precision 0, unless only the effective ones count.
  if (orders < kMaxBleuOrder && !effective) return 0.0;
  return std::exp(sum / static_cast<double>(orders));
}

/// Characters without white space.
std::u32string characters(std::string_view text) {
  std::u32string result;
  const auto valid = unicode::replace_invalid(text);
  for (size_t at = 0; at < valid.size();)
    if (const auto c = unicode::next(valid, at); !unicode::is_space(c)) result += c;
  return result;
}

std::unordered_map<std::u32string_view, int64_t> count_characters(std::u32string_view text,
                                                                  size_t order) {
  std::unordered_map<std::u32string_view, int64_t> counts;
  for (size_t i = 0; i + order <= text.size(); ++i) ++counts[text.substr(i, order)];
  return counts;
}

double chrf_of_pair(std::u32string_view text, std::u32string_view reference) {
  constexpr double kBetaSquared = 4.0;
  double precision = 0.0, recall = 0.0, orders = 0.0;
  for (size_t n = 1; n <= kMaxChrfOrder; ++n) {
    if (text.size() < n || reference.size() < n) break;
    const auto ours = count_characters(text, n), theirs = count_characters(reference, n);
    double matches = 0.0;
    for (const auto& [ngram, count] : ours)
      if (const auto found = theirs.find(ngram); found != theirs.end())
        matches += static_cast<double>(std::min(count, found->second));
    precision += matches / static_cast<double>(text.size() - n + 1);
    recall += matches / static_cast<double>(reference.size() - n + 1);
    orders += 1.0;
  }
  if (orders == 0.0 || precision + recall == 0.0) return 0.0;
  precision /= orders;
  recall /= orders;
  return (1.0 + kBetaSquared) * precision * recall / (kBetaSquared * precision + recall);
}

Words rouge_words(std::string_view text) {
  auto words = tokenize_13a(text);
  if (words.size() > kMaxRougeWords) words.resize(kMaxRougeWords);
  for (auto& word : words) {
    std::u32string lower;
    for (const char32_t c : unicode::decode(word)) unicode::append_lower(lower, c);
    word = unicode::encode(lower);
  }
  return words;
}

double longest_common_subsequence(const Words& a, const Words& b) {
  std::vector<size_t> row(b.size() + 1, 0);
  for (const auto& word : a) {
    size_t diagonal = 0;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t above = row[j + 1];
      row[j + 1] = word == b[j] ? diagonal + 1 : std::max(above, row[j]);
      diagonal = above;
    }
  }
  return static_cast<double>(row.back());
}

}  // namespace

std::vector<std::string> tokenize_13a(std::string_view raw) {
  std::string text = unicode::replace_invalid(raw);
  TextPattern("<skipped>").replace_all(text, "");
  TextPattern("-\n").replace_all(text, "");
  std::replace(text.begin(), text.end(), '\n', ' ');
  TextPattern("&quot;").replace_all(text, "\"");
  TextPattern("&amp;").replace_all(text, "&");
  TextPattern("&lt;").replace_all(text, "<");
  TextPattern("&gt;").replace_all(text, ">");
  std::string spaced = " ";
  for (const char c : text) {
    if (is_mark(c)) {
      spaced += ' ';
      spaced += c;
      spaced += ' ';
    } else {
      spaced += c;
    }
  }
  spaced += ' ';
  spaced = rewrite_pairs(
      spaced, [](char a, char b) { return !is_digit(a) && is_stop(b); },
      [](std::string& out, char a, char b) {
        out += {a, ' ', b, ' '};
      });
  spaced = rewrite_pairs(
      spaced, [](char a, char b) { return is_stop(a) && !is_digit(b); },
      [](std::string& out, char a, char b) {
        out += {' ', a, ' ', b};
      });
  spaced = rewrite_pairs(
      spaced, [](char a, char b) { return is_digit(a) && b == '-'; },
      [](std::string& out, char a, char b) {
        out += {a, ' ', b, ' '};
      });
  return split_words(spaced);
}

std::map<std::string, int64_t> count_ngrams(std::span<const std::string> words, size_t order) {
  std::map<std::string, int64_t> counts;
  for (size_t i = 0; i + order <= words.size(); ++i) {
    std::string ngram;
    for (size_t k = 0; k < order; ++k) ngram += words[i + k] + ' ';
    ++counts[ngram];
  }
  return counts;
}

double sentence_bleu(std::string_view text, std::span<const std::string> references,
                     BleuStyle style) {
  const auto words = tokenize_13a(text);
  if (words.empty() || references.empty()) return 0.0;
  std::vector<Words> reference_words;
  for (const auto& reference : references) reference_words.push_back(tokenize_13a(reference));
  const auto length = static_cast<int64_t>(words.size());
  int64_t reference_length = static_cast<int64_t>(reference_words[0].size());
  for (const auto& each : reference_words) {
    const auto candidate = static_cast<int64_t>(each.size());
    const auto distance = std::abs(candidate - length);
    const auto best = std::abs(reference_length - length);
    const bool nearer = distance < best || (distance == best && candidate < reference_length);
    if (style == BleuStyle::kHfSmooth ? candidate < reference_length : nearer)
      reference_length = candidate;
  }
  const auto counts = bleu_statistics(words, reference_words);
  const double precision = style == BleuStyle::kHfSmooth
                               ? smoothed_precision(counts)
                               : sacre_precision(counts, style == BleuStyle::kSacreExpEffective);
  const double ratio = static_cast<double>(reference_length) / static_cast<double>(length);
  return precision * (length < reference_length ? std::exp(1.0 - ratio) : 1.0);
}

double rouge_l(std::string_view text, std::span<const std::string> references) {
  const auto words = rouge_words(text);
  double best = 0.0;
  for (const auto& reference : references) {
    const auto others = rouge_words(reference);
    if (words.empty() || others.empty()) continue;
    const double common = longest_common_subsequence(words, others);
    best = std::max(best, 2.0 * common / static_cast<double>(words.size() + others.size()));
  }
  return best;
}

double token_f1(std::string_view text, std::span<const std::string> references) {
  const auto words = rouge_words(text);
  const auto ours = count_ngrams(words, 1);
  double best = 0.0;
  for (const auto& reference : references) {
    const auto others = rouge_words(reference);
    int64_t common = 0;
    for (const auto& [word, count] : count_ngrams(others, 1))
      if (const auto found = ours.find(word); found != ours.end())
        common += std::min(count, found->second);
    if (common > 0)
      best = std::max(best, 2.0 * static_cast<double>(common) /
                                static_cast<double>(words.size() + others.size()));
  }
  return best;
}

double chrf(std::string_view text, std::span<const std::string> references) {
  const auto ours = characters(text);
  double best = 0.0;
  for (const auto& reference : references)
    best = std::max(best, chrf_of_pair(ours, characters(reference)));
  return best;
}

}  // namespace meed
