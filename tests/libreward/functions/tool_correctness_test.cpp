#include "libreward/functions/tool_correctness.h"

#include <gtest/gtest.h>

namespace meed {
namespace {

std::vector<ToolCall> calls(const std::string& text) { return parse_tool_calls(text).value(); }

const std::string kF = R"({"name": "f", "parameters": {"a": 1, "b": 2}})";
const std::string kG = R"({"name": "g"})";

TEST(ToolCorrectness, CorrectnessHasTheWorkedValues) {
  const auto wanted = calls(kF);
  EXPECT_NEAR(tool_correctness(calls(R"({"name": "f", "arguments": {"a": 9}})"), wanted), -0.75,
              1e-12);
  EXPECT_EQ(tool_correctness(wanted, wanted), 3.0);
  EXPECT_EQ(tool_correctness(calls(kG), wanted), -3.0);
  EXPECT_EQ(tool_correctness({}, wanted), -3.0);
  EXPECT_EQ(tool_correctness(calls(kF + "\n" + kG), calls("[" + kG + "," + kF + "]")), 3.0);
}

TEST(ToolCorrectness, SwitchesGradeDifferently) {
  const auto wanted = calls(kF), near = calls(R"({"name": "f", "parameters": {"a": 1}})");
  EXPECT_EQ(tool_correctness(near, wanted, ToolMatch::kCoarse), -3.0);
  EXPECT_EQ(tool_correctness(near, wanted, ToolMatch::kIntermediate), -3.0);
  // Names 1, keys 0, one value of S_max 4.
  EXPECT_NEAR(tool_correctness(near, wanted, ToolMatch::kStrict), 0.0, 1e-12);
  EXPECT_NEAR(tool_correctness(near, wanted, ToolMatch::kFine, 1.0), 0.25, 1e-12);
}

}  // namespace
}  // namespace meed
