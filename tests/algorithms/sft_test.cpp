#include "tests/algorithms/program.h"

namespace meed {
namespace {

class SftTest : public ProgramTest {
 protected:
  static fs::path write_rows(const std::string& name, const std::vector<Json>& rows) {
    const auto path = folder_ / (name + ".jsonl");
    std::ofstream file(path);
    for (const auto& row : rows) file << row.dump() << "\n";
    return path;
  }
  /// Losses of two steps on all rows.
  static std::vector<double> train(const std::string& name, const std::vector<Json>& rows,
                                   const std::string& algorithm) {
    EXPECT_EQ(run(arguments(name, rows, algorithm)), 0) << name << errors();
    return losses(folder_ / name);
  }
  static std::string arguments(const std::string& name, const std::vector<Json>& rows,
                               const std::string& algorithm) {
    const auto path = folder_ / (name + ".yaml");
    std::ofstream(path) << "run: {output_dir: " << (folder_ / name).string()
                        << ", seed: 3, max_steps: 2, save_steps: 2}\n"
                        << "model: {path: " << (folder_ / "tiny").string() << "}\n"
                        << "algorithm: {type: sft" << algorithm << "}\n"
                        << "data: {type: jsonl, path: " << write_rows(name, rows).string() << "}\n"
                        << "optim: {learning_rate: 1.0e-3, per_device_train_batch_size: 8}\n";
    return "train " + path.string();
  }
  static Json turn(const std::string& role, const std::string& content) {
    return {{"role", role}, {"content", content}};
  }
};

TEST_F(SftTest, TheAssistantsTurnOfAConversationIsACompletion) {
  std::vector<Json> conversations, pairs;
  for (int i = 0; i < 8; ++i) {
    const auto question = turn("user", "What comes after " + std::to_string(i) + "?");
    const auto answer = turn("assistant", std::to_string(i + 1));
    conversations.push_back({{"messages", Json::array({question, answer})}});
    pairs.push_back({{"prompt", Json::array({question})}, {"completion", Json::array({answer})}});
  }
  const auto expected = train("sft_pairs", pairs, "");
  const auto masked = train("sft_masked", conversations, ", assistant_only_loss: true");
  const auto whole = train("sft_whole", conversations, "");
  ASSERT_EQ(expected.size(), 2u);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(masked[i], expected[i], 1e-5);
  EXPECT_GT(std::abs(whole[0] - expected[0]), 1e-3);
  // Of a pair, the mask leaves the completion as it is.
  const auto both = train("sft_both", pairs, ", assistant_only_loss: true");
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(both[i], expected[i], 1e-5);
}

TEST_F(SftTest, CutRowsKeepTheirMask) {
  std::vector<Json> rows;
  for (int i = 0; i < 8; ++i)
    rows.push_back(
        {{"messages", Json::array({turn("assistant", "one two three"), turn("user", "four"),
                                   turn("assistant", "five six seven eight")})}});
  for (const std::string mode : {"keep_start", "keep_end"}) {
    const auto values =
        train("sft_" + mode, rows,
              ", assistant_only_loss: true, max_length: 14, truncation_mode: " + mode);
    ASSERT_EQ(values.size(), 2u);
    for (const double value : values) EXPECT_TRUE(std::isfinite(value) && value > 0) << mode;
  }
}

TEST_F(SftTest, RowsWithoutAnAssistantAreNamed) {
  EXPECT_EQ(run(arguments("sft_text", {Json{{"text", "plain"}}}, ", assistant_only_loss: true")),
            1);
  EXPECT_NE(errors().find("row 1: assistant_only_loss: the row is not a conversation"),
            std::string::npos)
      << errors();
  const Json silent = {{"messages", Json::array({turn("user", "anybody?")})}};
  EXPECT_EQ(run(arguments("sft_silent", {silent}, ", assistant_only_loss: true")), 1);
  EXPECT_NE(
      errors().find("row 1: assistant_only_loss: the conversation has no text of the assistant"),
      std::string::npos)
      << errors();
}

}  // namespace
}  // namespace meed
