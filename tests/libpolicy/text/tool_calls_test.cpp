#include "libpolicy/text/tool_calls.h"

#include <gtest/gtest.h>

#include "libpolicy/core/random.h"

namespace meed {
namespace {

const std::string kF = R"({"name": "f", "parameters": {"a": 1, "b": "x"}})";
const std::string kG = R"({"name": "g"})";

TEST(ToolCalls, AListOrOneALine) {
  const std::vector<ToolCall> both = {{"f", {{"a", "1"}, {"b", "\"x\""}}}, {"g", {}}};
  for (const auto& text :
       {"[" + kF + "," + kG + "]", kF + "\n" + kG, "\n" + kF + "\r\n \n" + kG + "\n",
        R"([{"name": "f", "arguments": {"b": "x", "a": 1}}, {"name": "g", "parameters": null}])" +
            std::string()})
    EXPECT_EQ(parse_tool_calls(text), both) << text;
  EXPECT_EQ(parse_tool_calls("[]"), std::vector<ToolCall>());
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
