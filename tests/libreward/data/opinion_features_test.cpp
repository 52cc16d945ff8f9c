#include "libreward/data/opinion_features.h"

#include <gtest/gtest.h>

namespace meed {
namespace {

const std::vector<std::string> kReviews = {"Great battery. The screen is bad.",
                                           "good battery! awful screen"};

TEST(OpinionFeatures, AFaithfulSummaryOfAllAspectsHasFullMarks) {
  const auto features = opinion_features(kReviews, "Great battery. Bad screen.");
  EXPECT_EQ(features.aspect_coverage, 1.0);
  EXPECT_EQ(features.opinion_faithfulness, 1.0);
  EXPECT_EQ(features.opinion_coverage, 1.0);
  EXPECT_EQ(features.conciseness, 1.0);
  EXPECT_EQ(features.relevance, 1.0);
  EXPECT_EQ(features.hallucination, 0.0);
  EXPECT_EQ(features.language_correctness, 1.0);
}

TEST(OpinionFeatures, AWordOfNoReviewRaisesHallucinationByOneOverTheLength) {
  const auto plain = opinion_features(kReviews, "great battery bad");
  const auto invented = opinion_features(kReviews, "great battery bad waterproof");
  EXPECT_EQ(plain.hallucination, 0.0);
  EXPECT_DOUBLE_EQ(invented.hallucination, 0.25);
}

TEST(OpinionFeatures, EachFaultCostsItsOwnFeature) {
  EXPECT_DOUBLE_EQ(opinion_features(kReviews, "Great battery.").aspect_coverage, 0.5);
  const auto turned = opinion_features(kReviews, "Great battery. Good screen.");
  EXPECT_DOUBLE_EQ(turned.opinion_faithfulness, 0.5);
  EXPECT_DOUBLE_EQ(turned.opinion_coverage, 0.5);
  EXPECT_EQ(turned.aspect_coverage, 1.0);
  EXPECT_DOUBLE_EQ(opinion_features(kReviews, "Great battery. The is.").relevance, 0.5);
  EXPECT_DOUBLE_EQ(opinion_features(kReviews, "great battery. great battery.").language_correctness,
                   0.5);
  EXPECT_DOUBLE_EQ(
      opinion_features(kReviews, "great battery great battery great battery is is is is is is")
          .conciseness,
      0.5);
}

TEST(OpinionFeatures, AnyTextHasThem) {
  for (const double value : opinion_features({}, "").values()) {
    EXPECT_GE(value, 0.0);
    EXPECT_LE(value, 1.0);
  }
}

}  // namespace
}  // namespace meed
