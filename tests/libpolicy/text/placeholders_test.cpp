#include "libpolicy/text/placeholders.h"

#include <gtest/gtest.h>

#include "libpolicy/text/other_number.h"

namespace meed {
namespace {

TEST(Placeholders, FillsKnownNamesOnce) {
  EXPECT_EQ(fill_placeholders("{a} and {b}, {c} {", {{"a", "{b}"}, {"b", "2"}}),
            "{b} and 2, {c} {");
  EXPECT_EQ(fill_placeholders("", {{"a", "1"}}), "");
}

TEST(OtherNumber, ChangesTheLastNumberAlone) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const auto text = with_other_number("3 + 4 = 7\n#### 7 apples", seed);
    ASSERT_TRUE(text);
    EXPECT_TRUE(text->starts_with("3 + 4 = 7\n#### "));
    EXPECT_TRUE(text->ends_with(" apples"));
    EXPECT_NE(*text, "3 + 4 = 7\n#### 7 apples");
  }
  EXPECT_EQ(with_other_number("7", 3), with_other_number("7", 3));
  EXPECT_FALSE(with_other_number("no number", 1));
  EXPECT_FALSE(with_other_number("1234567890123456789", 1));
  EXPECT_FALSE(with_other_number("", 1));
}

}  // namespace
}  // namespace meed
