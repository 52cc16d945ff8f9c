#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <set>

#include "libpolicy/core/error.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/core/random.h"
#include "libpolicy/data/dataset.h"
#include "libpolicy/distributed/communicator.h"

namespace meed {
namespace {

class Data : public ::testing::Test {
 protected:
  Data()
      : folder_(std::filesystem::temp_directory_path() /
                ("meed-data-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~Data() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return (folder_ / name).string();
  }
  std::unique_ptr<Dataset> make(const std::string& yaml) {
    return datasets().create(ConfigNode::parse_string(yaml), context_);
  }
  std::unique_ptr<Dataset> jsonl(const std::string& text, const std::string& more = "") {
    return make("{type: jsonl, path: " + write("rows.jsonl", text) + more + "}");
  }
  std::string problem(const std::string& text, const std::string& more = "") {
    try {
      jsonl(text, more);
    } catch (const Error& e) {
      return std::string(e.what()).substr(folder_.string().size() + 1);
    }
    return "";
  }

  std::filesystem::path folder_;
  std::unique_ptr<Communicator> comm_ = Communicator::create({}, at::kCPU, "single");
  NullMetrics metrics_;
  RunContext context_{.comm = *comm_, .metrics = metrics_};
};

TEST_F(Data, ReadsTrlFormats) {
  const auto data = jsonl(
      "{\"prompt\": \"a\", \"completion\": \"b\"}\n"
      "{\"prompt\": [{\"role\": \"user\", \"content\": \"hi\"}], \"answer\": 5}\r\n\n"
      "{\"prompt\": \"p\", \"chosen\": \"x\", \"rejected\": \"y\", \"margin\": 0.5}\n"
      "{\"prompt\": \"p\", \"completion\": \"c\", \"label\": true}\n"
      "{\"prompt\": \"p\", \"completions\": [\"s1\", \"s2\"], \"labels\": [true, false]}");
  ASSERT_EQ(data->size(), 5);
  EXPECT_EQ(data->get(0).completion.text, "b");
  EXPECT_EQ(data->get(1).prompt.messages.at(0).content, "hi");
  EXPECT_EQ(data->get(1).extra.at("answer"), "5");
  EXPECT_DOUBLE_EQ(*data->get(2).margin, 0.5);
  EXPECT_TRUE(*data->get(3).label);
  EXPECT_EQ(data->get(4).labels, (std::vector<double>{1.0, 0.0}));
}

TEST_F(Data, SplitsImplicitPrompts) {
  const auto data = jsonl(
      "{\"chosen\": \"The sky is blue.\", \"rejected\": \"The sky is green.\"}\n"
      "{\"chosen\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", "
      "\"content\": \"a\"}],"
      " \"rejected\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", "
      "\"content\": \"b\"}]}");
  EXPECT_EQ(data->get(0).prompt.text, "The sky is");
  EXPECT_EQ(data->get(0).chosen.text, " blue.");
  EXPECT_EQ(data->get(1).prompt.messages.size(), 1u);
  EXPECT_EQ(data->get(1).rejected.messages.at(0).content, "b");
}

TEST_F(Data, ReadsDialogues) {
  const auto data = jsonl(
      "{\"chosen\": \"\\n\\nHuman: hi\\n\\nAssistant: yes\", \"rejected\": \"\\n\\nHuman: "
      "hi\\n\\nAssistant: no\"}",
      ", dialogue: hh");
  EXPECT_EQ(data->get(0).prompt.messages.at(0).role, "user");
  EXPECT_EQ(data->get(0).chosen.messages.at(0).content, "yes");
}

TEST_F(Data, SaysWhereARowIsBad) {
  EXPECT_EQ(problem("{\"prompt\": \"a\"}\n{\"prompt\": \n"),
            "rows.jsonl:2: not valid JSON (or not valid UTF-8)");
  EXPECT_EQ(problem("[1]"), "rows.jsonl[0]: expected a JSON object, got number");
  EXPECT_EQ(problem("{\"prompt\": \"a\", \"chosen\": \"b\"}"),
            "rows.jsonl:1: \"rejected\" is missing or empty");
  EXPECT_EQ(problem("{\"prompt\": 3}"),
            "rows.jsonl:1: \"prompt\": expected a string or a list of messages, got number");
  EXPECT_EQ(problem("{\"q\": \"a\"}", ", columns: {prompt: question}"),
            "rows.jsonl:1: \"question\" is missing (columns: prompt)");
  EXPECT_EQ(problem("  \n"), "rows.jsonl: the file is empty");
}

TEST_F(Data, SkipsAndCountsBadRowsWhenAsked) {
  const auto data =
      jsonl("{\"prompt\": \"a\"}\n{broken\n{\"prompt\": \"b\"}\n", ", on_bad_row: skip");
  EXPECT_EQ(data->size(), 2);
  EXPECT_EQ(data->num_skipped(), 1);
}

TEST_F(Data, PairsRightWithWrongAndKeepsQuestionsApart) {
  std::string text;
  for (int i = 0; i < 40; ++i)
    text += "{\"question\": \"q" + std::to_string(i) +
            "\", \"a\": {\"solution\": \"r\", \"is_correct\": true}, \"b\": {\"solution\": \"w\", "
            "\"is_correct\": false}}\n";
  const std::string keys =
      ", columns: {prompt: question}, pairs: right_wrong, group_column: question, eval_fraction: "
      "0.3, split: ";
  const auto train = jsonl(text, keys + "train"), eval = jsonl(text, keys + "eval");
  EXPECT_EQ(train->size() + eval->size(), 40);
  std::set<std::string> questions;
  for (int64_t i = 0; i < train->size(); ++i) questions.insert(train->get(i).prompt.text);
  for (int64_t i = 0; i < eval->size(); ++i)
    EXPECT_EQ(questions.count(eval->get(i).prompt.text), 0u);
  EXPECT_EQ(train->get(0).chosen.text, "r");
}

TEST_F(Data, MutatedFilesNeverCrash) {
  const std::string good =
      "{\"prompt\": [{\"role\": \"user\", \"content\": \"hi\"}], \"completions\": [\"s\"], "
      "\"labels\": [true]}\n{\"chosen\": \"a\", \"rejected\": \"b\"}\n";
  RandomStream random(7);
  for (int i = 0; i < 2000; ++i) {
    auto text = good;
    for (int64_t k = random.next_int(1, 4); k > 0; --k)
      text[static_cast<size_t>(random.next_int(0, static_cast<int64_t>(text.size()) - 1))] =
          static_cast<char>(random.next_int(0, 255));
    problem(text);
  }
}

TEST_F(Data, ArithmeticSplitsNeverMeetAndAnswersAreRight) {
  const std::string keys =
      "{type: arithmetic, num_rows: 300, kinds: [addition, subtraction, multiplication, "
      "comparison, two_steps, sequence, digit_sum], max_difficulty: 4, split: ";
  const auto train = make(keys + "train}"), eval = make(keys + "eval}"),
             again = make(keys + "train}");
  std::set<std::string> questions;
  for (int64_t i = 0; i < 300; ++i) {
    const auto example = train->get(i);
    questions.insert(example.extra.at("question"));
    EXPECT_EQ(example.extra.at("question"), again->get(i).extra.at("question"));
    EXPECT_EQ(example.completion.messages.at(0).content, "#### " + example.extra.at("answer"));
  }
  for (int64_t i = 0; i < 300; ++i)
    EXPECT_EQ(questions.count(eval->get(i).extra.at("question")), 0u);
}

TEST(Sampler, EpochsArePermutationsAndThePositionIsTheWholeState) {
  Sampler sampler(10, 3), other(10, 3);
  const auto first = sampler.next(10), second = sampler.next(10);
  EXPECT_EQ(std::set<int64_t>(first.begin(), first.end()).size(), 10u);
  EXPECT_NE(first, second);
  other.seek(15);
  const auto tail = other.next(5);
  EXPECT_TRUE(std::equal(tail.begin(), tail.end(), second.begin() + 5));
  EXPECT_THROW(Sampler(0, 1), DataError);
}

TEST_F(Data, MixesInTheSharesAskedFor) {
  const auto mixed = datasets().create(
      ConfigNode::parse_string(
          "{type: mixture, weights: [3, 1], num_rows: 400, datasets: ["
          "{type: arithmetic, num_rows: 50, kinds: [addition], max_difficulty: 3}, "
          "{type: arithmetic, num_rows: 200, kinds: [comparison], max_difficulty: 3}]}",
          "mixture"),
      context_);
  ASSERT_EQ(mixed->size(), 400);
  int64_t compared = 0;
  for (int64_t i = 0; i < mixed->size(); ++i) {
    const auto text = mixed->get(i).prompt.messages.at(0).content;
    compared += text.find("Which of the numbers") != std::string::npos;
    EXPECT_EQ(mixed->get(i).row, i);
    if (i % 40 == 39) EXPECT_EQ(compared, (i + 1) / 4);  // every stretch has its share
  }
  // Without weights: each row of each source once.
  const auto all = datasets().create(
      ConfigNode::parse_string("{type: mixture, datasets: [{type: arithmetic, num_rows: 30}, "
                               "{type: arithmetic, num_rows: 10, seed: 5}]}",
                               "mixture"),
      context_);
  EXPECT_EQ(all->size(), 40);
  EXPECT_THROW(
      datasets().create(
          ConfigNode::parse_string(
              "{type: mixture, weights: [1, 2], datasets: [{type: arithmetic}]}", "mixture"),
          context_),
      ConfigError);
}

}  // namespace
}  // namespace meed
