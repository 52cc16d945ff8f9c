#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "libpolicy/core/error.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/core/random.h"
#include "libpolicy/data/dataset.h"
#include "libpolicy/distributed/communicator.h"
#include "libreward/curation/short_to_long.h"
#include "libreward/curation/text_encoder.h"

namespace meed {
namespace {

std::unique_ptr<Dataset> make(const std::string& yaml) {
  const auto comm = Communicator::create({}, at::kCPU, "single");
  NullMetrics metrics;
  RunContext context{.comm = *comm, .metrics = metrics};
  return datasets().create(ConfigNode::parse_string(yaml), context);
}

/// Rows as a file that goes away with it.
class Rows {
 public:
  explicit Rows(const std::string& lines)
      : path_(std::filesystem::temp_directory_path() /
              ("meed-curation-" + std::to_string(::getpid()) + ".jsonl")) {
    std::ofstream(path_) << lines;
  }
  ~Rows() { std::filesystem::remove(path_); }
  std::string node() const { return "{type: jsonl, path: " + path_.string() + "}"; }

 private:
  std::filesystem::path path_;
};

std::string message_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const DataError& e) {
    return e.what();
  }
  return "no DataError";
}

TEST(ConvexHull, OfASquareAndItsCentreIsTheFourCorners) {
  const auto points =
      at::tensor({0.0, 0.0, 1.0, 0.0, 0.5, 0.5, 1.0, 1.0, 0.0, 1.0, 0.5, 0.0}, at::kDouble)
          .view({6, 2});
  EXPECT_EQ(convex_hull(points), (std::vector<int64_t>{0, 1, 3, 4}));
}

TEST(ConvexHull, OfALineIsItsEndsAndOfOnePointItself) {
  const auto line = at::tensor({0.0, 0.0, 2.0, 2.0, 1.0, 1.0}, at::kDouble).view({3, 2});
  EXPECT_EQ(convex_hull(line), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(convex_hull(at::zeros({3, 2}, at::kDouble)), (std::vector<int64_t>{0}));
}

TEST(PrincipalPlane, KeepsDistancesOfPointsInAPlane) {
  const auto plane =
      at::tensor({0.0, 0.0, 3.0, 0.0, 3.0, 4.0, -1.0, 2.0}, at::kDouble).view({4, 2});
  // The plane, turned into five dimensions.
  const auto basis = std::get<0>(at::linalg_qr(
      at::tensor({1.0, 2.0, 0.0, -1.0, 3.0, 0.5, 1.0, 1.0, 2.0, -2.0}, at::kDouble).view({5, 2})));
  const auto found = principal_plane(at::matmul(plane, basis.t()) + 7.0);
  for (int64_t i = 0; i < 4; ++i)
    for (int64_t j = 0; j < 4; ++j)
      EXPECT_NEAR((found[i] - found[j]).norm().item<double>(),
                  (plane[i] - plane[j]).norm().item<double>(), 1e-9);
}

TEST(TextEncoder, AMisspeltTextIsNearAndAnotherIsFar) {
  const std::vector<std::string> texts = {"the quick brown fox", "the quikc brown fox",
                                          "seven old stones", ""};
  const auto encoder = TextEncoder::create("hashed_ngrams");
  const auto vectors = encoder->embed(texts);
  const auto cosine = at::matmul(vectors, vectors.t());
  EXPECT_NEAR(cosine[0][0].item<double>(), 1.0, 1e-5);
  EXPECT_GT(cosine[0][1].item<double>(), 0.7);
  EXPECT_LT(cosine[0][2].item<double>(), 0.3);
  EXPECT_EQ(cosine[3][3].item<double>(), 0.0);
}

TEST(RankedPairs, GiveEveryPairOfUnequalScores) {
  const Rows rows(
      R"({"prompt": "p", "completions": ["a", "b", "c", "d"], "labels": [1, 3, 2, 3]})");
  const auto data = make("{type: ranked_pairs, gap_as_margin: true, data: " + rows.node() + "}");
  std::multiset<std::string> pairs;
  for (int64_t i = 0; i < data->size(); ++i)
    pairs.insert(data->get(i).chosen.text + data->get(i).rejected.text +
                 std::to_string(static_cast<int>(*data->get(i).margin)));
  EXPECT_EQ(pairs, (std::multiset<std::string>{"ba2", "bc1", "ca1", "da2", "dc1"}));
  const Rows poor(R"({"prompt": "p", "completions": ["a"], "labels": [1]})");
  EXPECT_NE(message_of([&] {
              make("{type: ranked_pairs, data: " + poor.node() + "}");
            }).find("row 1: ranked_pairs needs two"),
            std::string::npos);
}

TEST(Verification, WrongCompletionsHaveAnotherNumberOrEndBeforeIt) {
  std::string lines;
  for (int i = 0; i < 100; ++i)
    lines += R"({"prompt": "p", "completion": "one and two #### 3", "answer": "3"})"
             "\n";
  const Rows rows(lines + R"({"prompt": "p", "completion": "3", "answer": "3"})");
  const auto data =
      make("{type: verification, truncated_share: 0.4, data: " + rows.node() + "}");
  int cut = 0;
  for (int64_t i = 0; i < 100; ++i) {
    const auto row = data->get(i);
    EXPECT_EQ(row.prompt.text, "pReference answer: 3\n");
    EXPECT_EQ(row.chosen.text, "one and two #### 3");
    EXPECT_NE(row.rejected.text, row.chosen.text);
    EXPECT_TRUE(row.rejected.text.starts_with("one"));
    cut += !row.rejected.text.starts_with("one and two #### ");
  }
  EXPECT_GT(cut, 20);
  EXPECT_LT(cut, 60);
  EXPECT_NE(data->get(100).rejected.text, "3");  // no word to cut at
  const Rows worked(R"({"prompt": "p", "completion": "1 + 2 = 3", "answer": "1 + 2, so #### 3"})");
  EXPECT_EQ(make("{type: verification, template: \"{prompt}={final_answer} of {reference}\", data: " +
                 worked.node() + "}")
                ->get(0)
                .prompt.text,
            "p=3 of 1 + 2, so #### 3");
  EXPECT_THROW(make("{type: verification, truncated_share: 2, data: " + rows.node() + "}"), Error);
}

TEST(StrengthLabels, BucketDifferencesAndTurnContradictedPairs) {
  const Rows rows(
      R"({"prompt": "p", "chosen": "a", "rejected": "b", "chosen_score": 3, "rejected_score": 2.5})"
      "\n"
      R"({"prompt": "p", "chosen": "a", "rejected": "b", "chosen_score": 1, "rejected_score": 4})"
      "\n"
      R"({"prompt": "p", "chosen": "a", "rejected": "b", "chosen_score": 2, "rejected_score": 2})");
  const auto data = make("{type: strength_labels, data: " + rows.node() + "}");
  ASSERT_EQ(data->size(), 2);
  EXPECT_EQ(*data->get(0).margin, 1.0);
  EXPECT_EQ(*data->get(1).margin, 3.0);
  EXPECT_EQ(data->get(1).chosen.text, "b");
  EXPECT_NE(message_of([&] {
              make("{type: strength_labels, chosen_column: no, data: " + rows.node() + "}");
            }).find("row 1: column \"no\" is missing"),
            std::string::npos);
}

TEST(StrengthLabels, ASignedMarginSaysWhoWins) {
  const Rows rows(
      R"({"prompt": "p", "chosen": "a", "rejected": "b", "margin": 2})"
      "\n"
      R"({"prompt": "p", "chosen": "c", "rejected": "d", "margin": -3, "chosen_length": 1, "rejected_length": 2})"
      "\n"
      R"({"prompt": "p", "chosen": "e", "rejected": "f", "margin": 0})");
  const auto data = make("{type: strength_labels, signed_margin: true, data: " + rows.node() + "}");
  ASSERT_EQ(data->size(), 2);
  EXPECT_EQ(data->get(0).chosen.text, "a");
  EXPECT_EQ(*data->get(0).margin, 2.0);
  const auto turned = data->get(1);
  EXPECT_EQ(turned.chosen.text, "d");
  EXPECT_EQ(turned.rejected.text, "c");
  EXPECT_EQ(*turned.margin, 3.0);
  EXPECT_EQ(turned.extra.at("chosen_length"), "2");
  EXPECT_EQ(turned.extra.at("rejected_length"), "1");
  const Rows bare(R"({"prompt": "p", "chosen": "a", "rejected": "b"})");
  EXPECT_NE(message_of([&] {
              make("{type: strength_labels, signed_margin: true, data: " + bare.node() + "}");
            }).find("row 1: signed_margin needs a number in \"margin\""),
            std::string::npos);
}

TEST(StepLabels, ComeFromMonteCarloAJudgeOrBoth) {
  const Rows rows(
      R"({"prompt": "p", "completions": ["a", "b", "c"], "monte_carlo": [1, 0, 0.5], "judge": 2})"
      "\n"
      R"({"prompt": "p", "completions": ["a", "b"], "monte_carlo": [1, 0.25], "judge": 0})"
      "\n"
      R"({"prompt": "p", "completions": ["a", "b"], "monte_carlo": [1, 0.5], "judge": 1})");
  using Labels = std::vector<double>;
  const auto labels = [&](const std::string& keys) {
    const auto data = make("{type: step_labels, " + keys + ", data: " + rows.node() + "}");
    std::vector<Labels> all;
    for (int64_t i = 0; i < data->size(); ++i) all.push_back(data->get(i).labels);
    return all;
  };
  EXPECT_EQ(labels("source: monte_carlo"), (std::vector<Labels>{{1, 0, -100}, {1, 1}, {1, 1}}));
  EXPECT_EQ(labels("source: judge"), (std::vector<Labels>{{1, 0, -100}, {1, 1}, {0, -100}}));
  EXPECT_EQ(labels("source: consensus"), (std::vector<Labels>{{1, 0, -100}, {1, 1}}));
  EXPECT_EQ(labels("source: consensus, soft: true"),
            (std::vector<Labels>{{1, 0, -100}, {1, 0.25}}));
  EXPECT_EQ(labels("source: monte_carlo, threshold: 0.25"),
            (std::vector<Labels>{{1, 0, -100}, {1, 0}, {1, 1}}));
  const Rows poor(R"({"prompt": "p", "completions": ["a", "b"], "monte_carlo": [1], "judge": 7})");
  const auto problem = [&](const std::string& source) {
    return message_of(
        [&] { make("{type: step_labels, source: " + source + ", data: " + poor.node() + "}"); });
  };
  EXPECT_NE(problem("monte_carlo").find("expected a list of 2 shares"), std::string::npos);
  EXPECT_NE(problem("judge").find("row 1: column \"judge\" holds \"7\", not a step from 1 to 2"),
            std::string::npos);
}

TEST(LabelledSides, AreTwoRowsAPair) {
  const Rows rows(R"({"prompt": "p", "chosen": "a", "rejected": "b"})");
  const auto data = make("{type: labelled_sides, data: " + rows.node() + "}");
  ASSERT_EQ(data->size(), 2);
  EXPECT_EQ(data->get(0).completion.text, "a");
  EXPECT_EQ(data->get(0).extra.at("score"), "1");
  EXPECT_TRUE(data->get(0).chosen.empty());
  EXPECT_EQ(*data->get(1).label, false);
}

TEST(CritiqueTemplates, NameEveryFault) {
  const Rows rows(
      R"({"prompt": "p", "chosen": "a", "rejected": "b", "chosen_faults": [], "rejected_faults": ["year", "river"]})");
  const auto data = make("{type: critique_templates, data: " + rows.node() + "}");
  EXPECT_EQ(data->get(0).extra.at("chosen_critique"), " Nothing is wrong.");
  EXPECT_EQ(data->get(0).extra.at("rejected_critique"), " year is wrong. river is wrong.");
}

TEST(ConvexAugmentation, KeepsTheBudgetAndMisspellsAShare) {
  std::string lines;
  for (int i = 0; i < 40; ++i)
    lines += R"({"prompt": "p", "chosen": "quite a long answer number )" + std::to_string(i) +
             R"(", "rejected": "another sentence altogether"})"
             "\n";
  const Rows rows(lines);
  const std::string node =
      "{type: convex_augmentation, replaced_share: 0.5, data: " + rows.node() + "}";
  const auto data = make(node), again = make(node);
  ASSERT_EQ(data->size(), 40);
  int changed = 0;
  for (int64_t i = 0; i < 40; ++i) {
    const auto row = data->get(i);
    const bool other = row.chosen.text != "quite a long answer number " + std::to_string(i) ||
                       row.rejected.text != "another sentence altogether";
    EXPECT_EQ(other, row.extra.count("augmented") > 0) << i;
    EXPECT_NE(row.chosen.text, row.rejected.text);
    EXPECT_EQ(again->get(i).chosen.text, row.chosen.text);
    changed += other;
  }
  EXPECT_GT(changed, 10);
  EXPECT_LT(changed, 30);
}

TEST(PadContext, KeepsCriticalChunksInOrder) {
  RandomStream random(5);
  const std::vector<std::string> critical = {"A b.", "C d."},
                                 other = {"e f g.", "h i j.", "k l m."};
  const auto padded = pad_context(critical, other, 9, random);
  EXPECT_EQ(padded.num_sentences, 4);  // 4 words, then 3 and 3
  ASSERT_EQ(padded.places.size(), 2u);
  EXPECT_LT(padded.places[0], padded.places[1]);
  EXPECT_LT(padded.text.find("A b."), padded.text.find("C d."));
  EXPECT_EQ(padded.text.find("k l m."), std::string::npos);
}

TEST(Needle, PaddingNeverChangesALabel) {
  for (const std::string rejected : {"other_fact", "absent"}) {
    const auto data =
        make("{type: needle, num_rows: 60, lengths: [16, 2048], rejected: " + rejected + "}");
    const auto padded = make(
        "{type: short_to_long, lengths: [0, 300], data: {type: needle, "
        "num_rows: 60, lengths: [16, 2048], rejected: " +
        rejected + "}}");
    for (int64_t i = 0; i < 60; ++i) {
      for (const auto* rows : {data.get(), padded.get()}) {
        const auto row = rows->get(i);
        // The question's thing has the chosen colour in the context, whatever its length.
        const auto& question = row.extra.at("question");
        const auto begin = question.find("colour of the ") + 14;
        const auto thing = question.substr(begin, question.find('?') - begin);
        EXPECT_NE(row.prompt.text.find("The " + thing + " is" + row.chosen.text), std::string::npos)
            << row.prompt.text;
        EXPECT_EQ(row.prompt.text.find("The " + thing + " is" + row.rejected.text),
                  std::string::npos);
        const auto colour = row.rejected.text.substr(1, row.rejected.text.size() - 2);
        EXPECT_EQ(row.prompt.text.find(colour) != std::string::npos, rejected == "other_fact");
      }
      EXPECT_EQ(padded->get(i).chosen.text, data->get(i).chosen.text);
    }
  }
}

TEST(Needle, TellsKeysAndValuesAndAllFactsInAnotherOrder) {
  const auto data =
      make("{type: needle, form: key_value, num_rows: 40, num_facts: 8, lengths: [16]}");
  int64_t reordered = 0;
  for (int64_t i = 0; i < 40; ++i) {
    const auto row = data->get(i);
    const auto critical = nlohmann::json::parse(row.extra.at("critical"));
    std::string in_order;
    for (const std::string fact : critical) {
      EXPECT_NE(row.prompt.text.find(fact), std::string::npos);
      // "tower=blue." stands in the recital without its full stop, or at its end.
      const auto bare = fact.substr(0, fact.size() - 1);
      EXPECT_NE(row.extra.at("facts").find(bare), std::string::npos);
      in_order += (in_order.empty() ? "" : ". ") + bare;
    }
    reordered += in_order != row.extra.at("facts");
    EXPECT_EQ(row.extra.at("facts").size(), in_order.size());
    const auto& fact = row.extra.at("fact");
    EXPECT_EQ(row.chosen.text, " " + fact.substr(fact.find('=') + 1) + ".");
    EXPECT_NE(row.extra.at("misreading"), fact);
  }
  EXPECT_GE(reordered, 38);
}

TEST(FactAnswers, HaveMoreRightFactsWhereChosen) {
  const auto data = make("{type: fact_answers, num_rows: 50, noise: 0}");
  for (int64_t i = 0; i < 50; ++i) {
    const auto row = data->get(i);
    EXPECT_GT(std::stoi(row.extra.at("chosen_gold")), std::stoi(row.extra.at("rejected_gold")));
    EXPECT_EQ(nlohmann::json::parse(row.extra.at("chosen_faults")).size(),
              3u - static_cast<size_t>(std::stoi(row.extra.at("chosen_gold"))));
  }
}

TEST(ContrastInstructions, TestBothDirectionsOfBothKinds) {
  const auto data = make("{type: contrast_instructions, rows: contrast, num_rows: 80}");
  std::map<std::string, int> kinds;
  for (int64_t i = 0; i < 80; ++i) {
    const auto row = data->get(i);
    ++kinds[row.extra.at("kind")];
    EXPECT_NE(row.chosen.text, row.rejected.text);
    EXPECT_EQ(row.prompt.empty(), row.extra.at("kind") == "instruction");
  }
  EXPECT_EQ(kinds["response"], 40);
  EXPECT_EQ(kinds["instruction"], 40);
}

TEST(PointwiseJudgements, FollowTheMajorityOfTheJudges) {
  const std::string source = "data: {type: needle, num_rows: 30, lengths: [8]}";
  const auto sure = make("{type: pointwise_judgements, " + source + "}");
  ASSERT_EQ(sure->size(), 60);
  for (int64_t i = 0; i < 60; ++i) {
    const auto row = sure->get(i);
    EXPECT_EQ(row.chosen.text, row.extra.at("gold") == "1" ? " yes" : " no");
    EXPECT_EQ(row.completions.size(), 2u);
    EXPECT_NE(row.completions[0], row.chosen.text);
  }
  const auto explained =
      make("{type: pointwise_judgements, explanation_column: fact, mistake_column: misreading, " +
           source + "}");
  for (int64_t i = 0; i < 60; ++i) {
    const auto row = explained->get(i);
    const bool good = row.extra.at("gold") == "1";
    EXPECT_EQ(row.chosen.text, " " + row.extra.at("fact") + ", so" + (good ? " yes" : " no"));
    EXPECT_EQ(row.rejected.text,
              " " + row.extra.at("misreading") + ", so" + (good ? " no" : " yes"));
    EXPECT_EQ(row.completion.text, row.chosen.text);
    EXPECT_NE(row.prompt.text.find(row.extra.at("fact") + "."), std::string::npos);
  }
  EXPECT_THROW(make("{type: pointwise_judgements, explanation_column: fact, " + source + "}"),
               ConfigError);
  const auto poor = make("{type: pointwise_judgements, judge_accuracy: 0.6, " + source + "}");
  int right = 0;
  for (int64_t i = 0; i < 60; ++i)
    right += poor->get(i).chosen.text == (poor->get(i).extra.at("gold") == "1" ? " yes" : " no");
  EXPECT_GT(right, 30);
  EXPECT_LT(right, 58);
}

}  // namespace
}  // namespace meed
