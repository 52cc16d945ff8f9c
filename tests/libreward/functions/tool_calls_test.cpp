#include "libreward/functions/tool_calls.h"

#include <gtest/gtest.h>

#include "libpolicy/core/random.h"

namespace meed {
namespace {

std::vector<ToolCall> calls(const std::string& text) { return parse_tool_calls(text).value(); }

const std::string kF = R"({"name": "f", "parameters": {"a": 1, "b": 2}})";
const std::string kG = R"({"name": "g"})";

TEST(ToolCalls, CorrectnessHasTheWorkedValues) {
  const auto wanted = calls(kF);
  EXPECT_NEAR(tool_correctness(calls(R"({"name": "f", "arguments": {"a": 9}})"), wanted), -0.75,
              1e-12);
  EXPECT_EQ(tool_correctness(wanted, wanted), 3.0);
  EXPECT_EQ(tool_correctness(calls(kG), wanted), -3.0);
  EXPECT_EQ(tool_correctness({}, wanted), -3.0);
  EXPECT_EQ(tool_correctness(calls(kF + "\n" + kG), calls("[" + kG + "," + kF + "]")), 3.0);
}

TEST(ToolCalls, SwitchesGradeDifferently) {
  const auto wanted = calls(kF), near = calls(R"({"name": "f", "parameters": {"a": 1}})");
  EXPECT_EQ(tool_correctness(near, wanted, ToolMatch::kCoarse), -3.0);
  EXPECT_EQ(tool_correctness(near, wanted, ToolMatch::kIntermediate), -3.0);
  // Names 1, keys 0, one value of S_max 4.
  EXPECT_NEAR(tool_correctness(near, wanted, ToolMatch::kStrict), 0.0, 1e-12);
  EXPECT_NEAR(tool_correctness(near, wanted, ToolMatch::kFine, 1.0), 0.25, 1e-12);
}

TEST(ToolCalls, WhatCannotBeReadIsNothingAndNeverThrows) {
  for (const std::string text :
       {std::string(), std::string("{"), std::string("[1]"), std::string("{\"name\": 3}"),
        std::string("{\"name\": \"f\", \"parameters\": [1]}"), std::string(1000000, '['),
        std::string("\xff\xfe"), std::string("{\"name\": \"f\"} trailing")})
    EXPECT_FALSE(parse_tool_calls(text).has_value()) << text.substr(0, 40);
  EXPECT_NO_THROW(parse_tool_calls(R"({"name": "f", "parameters": {"a": 1e99999}})"));
  RandomStream random(11);
  for (int i = 0; i < 3000; ++i) {
    auto text = kF + "\n" + kG;
    for (int64_t k = random.next_int(1, 5); k > 0; --k)
      text[static_cast<size_t>(random.next_int(0, static_cast<int64_t>(text.size()) - 1))] =
          static_cast<char>(random.next_int(0, 255));
    parse_tool_calls(text);
  }
}

}  // namespace
}  // namespace meed
