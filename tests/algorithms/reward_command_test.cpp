#include "tests/algorithms/program.h"

// `meed reward` on what models write: hand-computed rewards, and every unreadable text counted by
// name.

namespace meed {
namespace {

class RewardCommand : public ProgramTest {
 protected:
  static std::vector<Json> scored(const std::string& rewards, const std::vector<Json>& rows) {
    std::ofstream(folder_ / "rewards.yaml") << "rewards: " << rewards << "\n";
    {
      std::ofstream file(folder_ / "rows.jsonl");
      for (const auto& row : rows) file << row.dump() << "\n";
    }
    EXPECT_EQ(
        run("reward " + (folder_ / "rewards.yaml").string() + " --input " +
            (folder_ / "rows.jsonl").string() + " --output " + (folder_ / "scored.jsonl").string()),
        0)
        << errors();
    std::vector<Json> results;
    std::ifstream file(folder_ / "scored.jsonl");
    for (std::string line; std::getline(file, line);) results.push_back(Json::parse(line));
    return results;
  }
};

TEST_F(RewardCommand, ReadsTextsMessagesAndObjects) {
  const Json row = {
      {"prompt", Json::array({{{"role", "user"}, {"content", "6 times 2?"}}})},
      {"answer", "12"},
      {"completions",
       Json::array({"#### 12", Json::array({{{"role", "assistant"}, {"content", "It is 12."}}}),
                    Json{{"text", "13"}, {"ids", {1, 2}}, {"finish_reason", "length"}}})}};
  const auto results = scored("[{type: math_answer}]", {row});
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0]["rewards"], Json({1.0, 1.0, 0.0}));
  std::ofstream(folder_ / "bad.jsonl")
      << R"({"prompt": "x", "answer": "1", "completions": [[{"role": "assistant", "tool_calls": []}]]})"
      << "\n";
  EXPECT_EQ(run("reward " + (folder_ / "rewards.yaml").string() + " --input " +
                (folder_ / "bad.jsonl").string()),
            1);
  EXPECT_NE(errors().find("has no \"content\" to score"), std::string::npos) << errors();
}

TEST_F(RewardCommand, NamesWhatItCannotRead) {
  std::string deep;
  for (int i = 0; i < 20'000; ++i) deep += "[";
  const Json row = {
      {"prompt", "call f"},
      {"tool_calls", R"([{"name": "f", "parameters": {"a": 1, "b": 2}}])"},
      {"completions",
       Json::array(
           {R"(<think>x</think><tool_call>{"name": "f", "parameters": {"a": 9}}</tool_call>)",
            "<think>x</think><tool_call>" + deep + "</tool_call>", "<tool_call>{",
            "\xe4\xb8\xad\xe6\x96\x87", "", "1e99999"})}};
  const auto results = scored("[{type: tool_call}]", {row});
  ASSERT_EQ(results.size(), 1u);
  // S = 1 + 1/2 of S_max = 4: 6 * 1.5 / 4 - 3 = -0.75, and 1 for the form.
  EXPECT_EQ(results[0]["rewards"], Json({0.25, -2.0, -3.0, -3.0, -3.0, -3.0}));
  EXPECT_EQ(results[0]["unreadable"]["tool_call/malformed_tool_call"], Json({1}));
  EXPECT_EQ(results[0]["unreadable"]["tool_call/unbalanced_tags"], Json({2}));
  EXPECT_EQ(results[0]["unreadable"]["tool_call/no_tool_call"], Json({3, 4, 5}));
}

TEST_F(RewardCommand, CountsAnswersThatAreNoNumbers) {
  std::string digits(10'001, '9'), brackets(100'000, '(');
  const Json row = {
      {"prompt", "6 times 7?"},
      {"answer", "42"},
      {"completions", Json::array({"\\boxed{42}", "\\boxed{41}", "", "\\boxed{1e400}",
                                   "\\boxed{" + digits + "}", "\\boxed{" + brackets + "}",
                                   "\xe0\xa4\x89\xe0\xa4\xa4", "\\boxed{2^{1000000000}}"})}};
  auto results = scored("[{type: math_equivalence}]", {row});
  EXPECT_EQ(results[0]["rewards"], Json({1, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(results[0]["unreadable"]["math_equivalence/no_answer"], Json({2}));
  EXPECT_EQ(results[0]["unreadable"]["math_equivalence/not_mathematics"], Json({3, 4, 5, 6, 7}));
  results = scored("[{type: math_answer}]", {row});
  EXPECT_EQ(results[0]["unreadable"]["math_answer/no_answer"], Json({2, 3, 4, 5, 6}));
  results = scored("[{type: math_answer, require_format: \"<a>(.*)</a>\"}]", {row});
  EXPECT_EQ(results[0]["unreadable"]["math_answer/not_in_form"].size(), 8u);
  // Without a tokenizer nobody knows how long a text is.
  results = scored("[{type: length}]", {row});
  EXPECT_EQ(results[0]["unreadable"]["length/no_tokens"].size(), 7u);
  // The same text is the same answer, whatever its size; tags that interlock are no form.
  auto same = row;
  same["answer"] = "1e400";
  EXPECT_EQ(scored("[{type: math_equivalence}]", {same})[0]["rewards"][3], 1.0);
  const Json judged = {{"prompt", "x"},
                       {"answer", "1"},
                       {"completions", Json::array({"<think>a<answer>1</think></answer>"})}};
  results = scored("[{type: r1_reward}]", {judged});
  EXPECT_EQ(results[0]["rewards"][0], 0.0);
  EXPECT_EQ(results[0]["unreadable"]["r1_reward/tags_out_of_order"], Json({0}));
}

TEST_F(RewardCommand, BytesThatAreNotUtf8CostTheirPlaceOnly) {
  std::ofstream(folder_ / "rewards.yaml") << "rewards: [{type: math_answer}]\n";
  std::ofstream(folder_ / "bytes.jsonl")
      << "{\"prompt\": \"x\", \"answer\": \"42\", \"completions\": [\"bad \xff\xe4\xb8 42\", "
         "\"\xff\"]}\n";
  ASSERT_EQ(
      run("reward " + (folder_ / "rewards.yaml").string() + " --input " +
          (folder_ / "bytes.jsonl").string() + " --output " + (folder_ / "scored.jsonl").string()),
      0)
      << errors();
  EXPECT_NE(errors().find("not UTF-8"), std::string::npos);
  std::ifstream file(folder_ / "scored.jsonl");
  std::string line;
  std::getline(file, line);
  const auto result = Json::parse(line);
  EXPECT_EQ(result["rewards"], Json({1.0, 0.0}));
  EXPECT_EQ(result["unreadable"]["math_answer/no_answer"], Json({1}));
}

}  // namespace
}  // namespace meed
