// A reward function as a plug-in: the share of vowels among a completion's letters.
//   g++ -std=c++20 -shared -fPIC vowel_share.cpp -o libvowel_share.so <flags of find_package(meed)>
//   rewards: [{type: plugin, path: ./libvowel_share.so}]
#include <cctype>

#include "libreward/plugin.h"

namespace {

class VowelShare final : public meed::PointwiseReward {
  meed::Score score_one(const meed::Example&, const meed::Completion& completion) override {
    double letters = 0.0, vowels = 0.0;
    for (const char c : completion.text) {
      const int lower = std::tolower(static_cast<unsigned char>(c));
      if (lower < 'a' || lower > 'z') continue;
      letters += 1.0;
      vowels += std::string_view("aeiou").find(static_cast<char>(lower)) != std::string_view::npos;
    }
    return {.value = letters > 0.0 ? vowels / letters : 0.0};
  }
};

}  // namespace

MEED_REWARD_PLUGIN(VowelShare)
