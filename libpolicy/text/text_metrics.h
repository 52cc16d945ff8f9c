#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace meed {

/// Words as WMT's mteval-v13a and sacreBLEU split them. Bytes that are not UTF-8 become U+FFFD.
std::vector<std::string> tokenize_13a(std::string_view text);

/// How often each n-gram of `order` words occurs, its words joined by spaces.
std::map<std::string, int64_t> count_ngrams(std::span<const std::string> words, size_t order);

enum class BleuStyle {
  kHfSmooth,  ///< (m + 1) / (t + 1) for every order, shortest reference; as evaluate's "bleu" with
              ///< smooth
  kSacreExp,  ///< sacreBLEU: exponential smoothing, closest reference, all four orders
  kSacreExpEffective,  ///< the same over the orders that the text is long enough for: sentence_bleu
};

/// Sentence BLEU-4 in [0, 1]; 0 for a text without words or without references.
double sentence_bleu(std::string_view text, std::span<const std::string> references,
                     BleuStyle style);

/// F1 of the longest common subsequence of lower-cased 13a words, the best over references, in
/// [0, 1]. Only the first 4096 words of each text count, so that the time is bounded.
double rouge_l(std::string_view text, std::span<const std::string> references);

/// F1 of the bags of lower-cased 13a words, the best over references, in [0, 1].
double token_f1(std::string_view text, std::span<const std::string> references);

/// chrF in [0, 1] as sacreBLEU: character 1- to 6-grams without spaces, beta 2, the best over
/// references.
double chrf(std::string_view text, std::span<const std::string> references);

}  // namespace meed
