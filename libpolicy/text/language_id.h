#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace meed {

/// Which language a text is in, by its script and its letters' 1- to 3-grams: naive Bayes over
/// profiles made of a sample text each (Cavnar and Trenkle 1994 with likelihoods for ranks). Knows
/// the languages of kBuiltIn, and any that it is given a sample of. const methods may be called
/// from several threads.
class LanguageIdentifier {
 public:
  /// `samples`: more languages by name, or other samples of known ones. `only`: the languages to
  /// choose among; empty: all. Throws ConfigError on an unknown name in `only`, or a sample without
  /// letters.
  explicit LanguageIdentifier(const std::map<std::string, std::string>& samples = {},
                              const std::vector<std::string>& only = {});
  ~LanguageIdentifier();

  struct Guess {
    std::string language;      ///< "" where the text has no letters of a known script
    double probability = 0.0;  ///< against the other languages of that script
  };
  /// Of the letters alone; only the first 4096 characters count. Any bytes will do.
  Guess identify(std::string_view text) const;
  std::vector<std::string> languages() const;

 private:
  struct Profile;
  std::vector<Profile> profiles_;
};

}  // namespace meed
