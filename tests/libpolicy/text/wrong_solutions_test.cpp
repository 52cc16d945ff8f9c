#include "libpolicy/text/wrong_solutions.h"

#include <gtest/gtest.h>

#include <set>

namespace meed {
namespace {

TEST(WrongSolutions, HaveAnotherLastNumberAndTheSameWords) {
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

TEST(WrongSolutions, AreCutAtTheEndOfAnyWordBeforeTheLastNumber) {
  std::set<std::string> texts;
  for (uint64_t seed = 0; seed < 50; ++seed)
    texts.insert(cut_before_last_number("3 + 4\n = 7 \n#### $7 apples", seed).value());
  EXPECT_EQ(texts, (std::set<std::string>{"3", "3 +", "3 + 4", "3 + 4\n =", "3 + 4\n = 7",
                                          "3 + 4\n = 7 \n####"}));
  EXPECT_EQ(cut_before_last_number("a b 7", 3), cut_before_last_number("a b 7", 3));
  EXPECT_FALSE(cut_before_last_number("7 apples", 1));
  EXPECT_FALSE(cut_before_last_number(" 7", 1));
  EXPECT_FALSE(cut_before_last_number("no number", 1));
  EXPECT_FALSE(cut_before_last_number("", 1));
}

}  // namespace
}  // namespace meed
