#include "libpolicy/text/text_metrics.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "libpolicy/core/files.h"
#include "libpolicy/core/random.h"

namespace meed {
namespace {

double bleu(const std::string& text, const std::vector<std::string>& references,
            BleuStyle style = BleuStyle::kHfSmooth) {
  return sentence_bleu(text, references, style);
}

TEST(TextMetrics, AgreeWithSacreBleu) {
  const auto golden = nlohmann::json::parse(
      read_file(std::string(MEED_SOURCE_DIR) + "/tests/golden/text_metrics.json"));
  for (const auto& row : golden["rows"]) {
    const auto text = row["text"].get<std::string>();
    const auto references = row["references"].get<std::vector<std::string>>();
    EXPECT_EQ(tokenize_13a(text), row["tokens"].get<std::vector<std::string>>()) << text;
    EXPECT_NEAR(bleu(text, references, BleuStyle::kSacreExp), row["bleu"], 1e-9) << text;
    EXPECT_NEAR(bleu(text, references, BleuStyle::kSacreExpEffective), row["bleu_effective"], 1e-9)
        << text;
    EXPECT_NEAR(chrf(text, references), row["chrf"], 1e-9) << text;
  }
}

TEST(TextMetrics, SmoothedBleuHasTheWorkedValues) {
  EXPECT_NEAR(bleu("the cat sat on the mat", {"the cat is on the mat"}), 0.488923, 1e-6);
  EXPECT_NEAR(bleu("the cat is on the mat", {"the cat is on the mat"}), 1.0, 1e-12);
  EXPECT_NEAR(bleu("the cat", {"the cat is on the mat"}), 0.135335, 1e-6);
  EXPECT_EQ(bleu("", {"the cat"}), 0.0);
  EXPECT_NEAR(bleu("the cat sat on the mat", {"the cat is on the mat"}, BleuStyle::kSacreExp),
              0.379918, 1e-6);
}

TEST(TextMetrics, RougeLIsTheF1OfTheLongestCommonSubsequence) {
  const std::vector<std::string> reference = {"police killed the gunman"};
  EXPECT_NEAR(rouge_l("Police kill the gunman", reference), 0.75, 1e-12);
  EXPECT_NEAR(rouge_l("the gunman kill police", reference), 0.5, 1e-12);
  EXPECT_EQ(rouge_l("", reference), 0.0);
}

TEST(TextMetrics, AnyBytesGiveANumberInTheUnitInterval) {
  RandomStream random(3);
  for (int i = 0; i < 500; ++i) {
    std::string text, other;
    for (int64_t k = random.next_int(0, 60); k > 0; --k) {
      text += static_cast<char>(random.next_int(0, 255));
      other += static_cast<char>(random.next_int(0, 255));
    }
    for (const double value :
         {bleu(text, {other, text}), rouge_l(text, std::vector<std::string>{other}),
          chrf(text, std::vector<std::string>{other, ""})}) {
      EXPECT_GE(value, 0.0);
      EXPECT_LE(value, 1.0 + 1e-12);
    }
  }
}

TEST(TokenF1, IsOfBagsOfWords) {
  const auto f1 = [](const char* text, std::vector<std::string> references) {
    return token_f1(text, references);
  };
  EXPECT_EQ(f1("Red star and blue cross", {"blue cross and red star"}), 1.0);
  EXPECT_NEAR(f1("red star star", {"red star"}), 0.8, 1e-12);
  EXPECT_NEAR(f1("a b", {"c d", "b c d e"}), 1.0 / 3.0, 1e-12);
  EXPECT_EQ(f1("", {"a"}), 0.0);
  EXPECT_EQ(f1("a", {}), 0.0);
}

}  // namespace
}  // namespace meed
