#include <ATen/ATen.h>

#include <cctype>
#include <set>

#include "libpolicy/core/error.h"
#include "libpolicy/core/random.h"
#include "libreward/curation/text_encoder.h"
#include "libreward/curation/wrapped_dataset.h"

namespace meed {
namespace {

/// Swaps, drops or doubles a letter in about `share` of the words, at least in one; words of one
/// letter stay.
std::string with_spelling_noise(const std::string& text, double share, uint64_t seed) {
  std::vector<std::pair<size_t, size_t>> words;
  for (size_t at = 0; at < text.size();) {
    while (at < text.size() && !std::isalpha(static_cast<unsigned char>(text[at]))) ++at;
    const size_t first = at;
    while (at < text.size() && std::isalpha(static_cast<unsigned char>(text[at]))) ++at;
    if (at - first > 1) words.emplace_back(first, at);
  }
  if (words.empty()) return text;
  RandomStream random(seed);
  std::set<size_t> hit;
  for (size_t w = 0; w < words.size(); ++w)
    if (random.next() < share) hit.insert(w);
  if (hit.empty())
    hit.insert(static_cast<size_t>(random.next_int(0, static_cast<int64_t>(words.size()) - 1)));
  std::string noisy = text;
  // From the end, so that places before stay what they are.
  for (auto w = hit.rbegin(); w != hit.rend(); ++w) {
    const auto [first, end] = words[*w];
    const auto at = static_cast<size_t>(
        random.next_int(static_cast<int64_t>(first), static_cast<int64_t>(end) - 2));
    switch (random.next_int(0, 2)) {
      case 0:
        std::swap(noisy[at], noisy[at + 1]);
        break;
      case 1:
        noisy.erase(at, 1);
        break;
      default:
        noisy.insert(at, 1, noisy[at]);
    }
  }
  return noisy;
}

/// ConvexDA (Trickle-down): of some misspelt copies of a response those at the corners of the
/// convex hull of their embeddings' plane are kept and paired with the other side as it was. A
/// share of the rows is replaced by such pairs, so that there are as many rows as before.
class ConvexAugmentation final : public ListDataset {
 public:
  struct Config {
    std::optional<ConfigNode> data;
    int64_t num_augmentations = 5;
    double word_share = 0.05, replaced_share = 0.5;
    std::string encoder = "hashed_ngrams";
    int64_t seed = 0;
    void fields(FieldVisitor& v) {
      v.component("data", data, datasets(), "Preference rows.");
      v.required("data");
      v.field("num_augmentations", num_augmentations, "Misspelt copies of each response.");
      v.field("word_share", word_share, "Share of a copy's words that are misspelt; at least one.");
      v.field("replaced_share", replaced_share,
              "Share of the rows that augmented ones stand in place of.");
      v.field("encoder", encoder, "hashed_ngrams, or the folder of a sentence encoder.");
      v.field("seed", seed, "Seed of the misspellings and of the choice.");
      v.require(num_augmentations > 0, "num_augmentations", "must be positive");
      v.require(word_share > 0 && word_share <= 1, "word_share", "must be in (0, 1]");
      v.require(replaced_share >= 0 && replaced_share <= 1, "replaced_share", "must be in [0, 1]");
      v.require(seed >= 0, "seed", "must not be negative");
    }
  };
  ConvexAugmentation(const Config& config, RunContext& context) : config_(config) {
    const auto source = datasets().create(*config.data, context);
    const auto encoder = TextEncoder::create(config.encoder);
    for (int64_t i = 0; i < source->size(); ++i) {
      auto example = source->get(i);
      require_pair(example, "convex_augmentation");
      RandomStream random(mix_seed({static_cast<uint64_t>(config.seed), static_cast<uint64_t>(i)}));
      if (random.next() < config.replaced_share) {
        auto& side = random.next() < 0.5 ? example.chosen : example.rejected;
        auto& text = side.conversational ? side.messages.back().content : side.text;
        const auto corners = corner_copies(*encoder, text, random.next_int(0, INT32_MAX));
        if (!corners.empty())
          text = corners[static_cast<size_t>(
              random.next_int(0, static_cast<int64_t>(corners.size()) - 1))];
        example.extra["augmented"] = corners.empty() ? "false" : "true";
      }
      rows_.push_back(std::move(example));
    }
  }

 private:
  std::vector<std::string> corner_copies(TextEncoder& encoder, const std::string& text,
                                         int64_t seed) const {
    std::vector<std::string> copies;
    for (int64_t k = 0; k < config_.num_augmentations; ++k) {
      auto copy =
          with_spelling_noise(text, config_.word_share,
                              mix_seed({static_cast<uint64_t>(seed), static_cast<uint64_t>(k)}));
      if (copy != text) copies.push_back(std::move(copy));
    }
    if (copies.empty()) return {};
    std::vector<std::string> corners;
    for (const int64_t i : convex_hull(principal_plane(encoder.embed(copies))))
      corners.push_back(copies[static_cast<size_t>(i)]);
    return corners;
  }

  Config config_;
};

MEED_REGISTER(datasets, "convex_augmentation", ConvexAugmentation,
              "Pairs of which a share is misspelt, at the corners of what misspelling reaches.");

}  // namespace
}  // namespace meed
