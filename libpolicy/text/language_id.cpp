#include "libpolicy/text/language_id.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>

#include "libpolicy/core/error.h"
#include "libpolicy/core/strings.h"
#include "libpolicy/text/unicode.h"

namespace meed {
namespace {

enum class Script {
  kNone,
  kLatin,
  kCyrillic,
  kGreek,
  kHebrew,
  kArabic,
  kDevanagari,
  kThai,
  kHangul,
  kKana,
  kHan
};
constexpr size_t kNumScripts = 11;

struct Range {
  char32_t first, last;
  Script script;
};
// Unicode blocks, rising.
constexpr std::array kRanges = {
    Range{0x41, 0x5A, Script::kLatin},      Range{0x61, 0x7A, Script::kLatin},
    Range{0xC0, 0x24F, Script::kLatin},     Range{0x370, 0x3FF, Script::kGreek},
    Range{0x400, 0x52F, Script::kCyrillic}, Range{0x590, 0x5FF, Script::kHebrew},
    Range{0x600, 0x6FF, Script::kArabic},   Range{0x900, 0x97F, Script::kDevanagari},
    Range{0xE00, 0xE7F, Script::kThai},     Range{0x1100, 0x11FF, Script::kHangul},
    Range{0x1E00, 0x1EFF, Script::kLatin},  Range{0x1F00, 0x1FFF, Script::kGreek},
    Range{0x3040, 0x30FF, Script::kKana},   Range{0x3400, 0x9FFF, Script::kHan},
    Range{0xAC00, 0xD7AF, Script::kHangul}, Range{0x20000, 0x3FFFF, Script::kHan}};

Script script_of(char32_t c) {
  const auto after =
      std::upper_bound(kRanges.begin(), kRanges.end(), c,
                       [](char32_t value, const Range& r) { return value < r.first; });
  return after == kRanges.begin() || c > (after - 1)->last ? Script::kNone : (after - 1)->script;
}

/// Lower-case words with a space before, between and behind.
std::u32string letters_of(std::string_view raw) {
  constexpr size_t kMaxBytes = 16384;
  constexpr size_t kMaxCharacters = 4096;
  std::u32string text = U" ";
  for (const char32_t c : unicode::decode(unicode::replace_invalid(raw.substr(0, kMaxBytes)))) {
    if (text.size() > kMaxCharacters) break;
    if (script_of(c) != Script::kNone)
      unicode::append_lower(text, c);
    else if (text.back() != U' ')
      text += U' ';
  }
  if (text.back() != U' ') text += U' ';
  return text;
}

/// The script of most letters. Japanese is written in Han and kana: some kana decide.
Script main_script(const std::u32string& letters) {
  std::array<size_t, kNumScripts> counts{};
  for (const char32_t c : letters)
    if (c != U' ') ++counts[static_cast<size_t>(script_of(c))];
  counts[0] = 0;
  auto& kana = counts[static_cast<size_t>(Script::kKana)];
  auto& han = counts[static_cast<size_t>(Script::kHan)];
  if (10 * kana > han) {
    kana += han;
    han = 0;
  }
  const auto most = std::max_element(counts.begin(), counts.end());
  return *most == 0 ? Script::kNone : static_cast<Script>(most - counts.begin());
}

/// Scripts of the built-in languages that have no sample.
const std::map<std::string, Script>& lone_scripts() {
  static const std::map<std::string, Script> all = {
      {"el", Script::kGreek},      {"he", Script::kHebrew}, {"ar", Script::kArabic},
      {"hi", Script::kDevanagari}, {"th", Script::kThai},   {"ko", Script::kHangul},
      {"ja", Script::kKana},       {"zh", Script::kHan}};
  return all;
}

constexpr std::array<std::array<const char*, 2>, 29> kBuiltIn = {{
#include "libpolicy/text/language_samples.inc"
}};

constexpr size_t kOrders = 3;

}  // namespace

struct LanguageIdentifier::Profile {
  std::string language;
  Script script = Script::kNone;
  std::unordered_map<std::u32string, double> counts;  ///< n-grams of all orders
  std::array<double, kOrders> totals{};

  Profile(std::string name, std::string_view sample) : language(std::move(name)) {
    const auto letters = letters_of(sample);
    script = main_script(letters);
    for (size_t n = 1; n <= kOrders; ++n)
      for (size_t i = 0; i + n <= letters.size(); ++i) {
        counts[letters.substr(i, n)] += 1.0;
        totals[n - 1] += 1.0;
      }
  }

  double share(const std::u32string& gram) const {
    const auto found = counts.find(gram);
    return found == counts.end() ? 0.0 : found->second / totals[gram.size() - 1];
  }

  /// Log-likelihood of a letter: trigram, bigram and letter shares mixed, so that a rare n-gram
  /// falls back on a shorter one.
  double log_likelihood(const std::u32string& letters) const {
    constexpr std::array kWeights = {0.2, 0.3, 0.5};
    constexpr double kFloor = 1e-5;
    double sum = 0.0;
    for (size_t i = 0; i < letters.size(); ++i) {
      double mixed = kFloor;
      for (size_t n = 1; n <= std::min(kOrders, i + 1); ++n) {
        const double whole = share(letters.substr(i + 1 - n, n));
        const double context = n == 1 ? 1.0 : share(letters.substr(i + 1 - n, n - 1));
        if (context > 0.0) mixed += kWeights[n - 1] * std::min(1.0, whole / context);
      }
      sum += std::log(mixed);
    }
    return sum;
  }
};

LanguageIdentifier::LanguageIdentifier(const std::map<std::string, std::string>& samples,
                                       const std::vector<std::string>& only) {
  const auto wanted = [&](const std::string& name) {
    return only.empty() || std::find(only.begin(), only.end(), name) != only.end();
  };
  for (const auto& [name, sample] : samples) {
    if (!wanted(name)) continue;
    profiles_.emplace_back(name, sample);
    if (profiles_.back().script == Script::kNone)
      throw ConfigError("language \"" + name + "\": its sample has no letters");
  }
  for (const auto& [name, sample] : kBuiltIn) {
    if (!wanted(name) || samples.count(name) > 0) continue;
    profiles_.emplace_back(name, sample);
    if (const auto lone = lone_scripts().find(name); lone != lone_scripts().end())
      profiles_.back().script = lone->second;
  }
  const auto known = languages();
  for (const auto& name : only)
    if (std::find(known.begin(), known.end(), name) == known.end())
      throw ConfigError("language \"" + name + "\" is not known; give a sample of it");
}

LanguageIdentifier::~LanguageIdentifier() = default;

std::vector<std::string> LanguageIdentifier::languages() const {
  std::vector<std::string> names;
  for (const auto& profile : profiles_) names.push_back(profile.language);
  return names;
}

LanguageIdentifier::Guess LanguageIdentifier::identify(std::string_view text) const {
  const auto letters = letters_of(text);
  const auto script = main_script(letters);
  if (script == Script::kNone) return {};
  std::vector<double> likelihoods;
  double best = -INFINITY;
  Guess guess;
  for (const auto& profile : profiles_) {
    if (profile.script != script) continue;
    likelihoods.push_back(profile.log_likelihood(letters));
    if (likelihoods.back() <= best) continue;
    best = likelihoods.back();
    guess.language = profile.language;
  }
  double sum = 0.0;
  for (const double likelihood : likelihoods) sum += std::exp(likelihood - best);
  guess.probability = sum > 0.0 ? 1.0 / sum : 0.0;
  return guess;
}

}  // namespace meed
