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

}  // namespace
}  // namespace meed
