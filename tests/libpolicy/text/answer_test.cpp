#include "libpolicy/text/answer.h"

#include <gtest/gtest.h>

#include "libpolicy/core/random.h"

namespace meed {
namespace {

TEST(Answer, FindsTheFinalNumber) {
  const std::vector<std::pair<std::string, double>> cases = {{"#### 72", 72},
                                                             {"so 3 + 4 = 7.\n#### 1,234", 1234},
                                                             {"\\boxed{42}", 42},
                                                             {"\\boxed{\\frac{1}{2}}", 0.5},
                                                             {"The answer is $18.50.", 18.5},
                                                             {"The answer is: **-3**", -3},
                                                             {"It costs 5 dollars", 5},
                                                             {"1e3", 1000},
                                                             {"x = \xE2\x88\x92"
                                                              "7",
                                                              -7},
                                                             {"10-3=7", 7},
                                                             {"50%", 50},
                                                             {"first 3, then 12 apples.", 12},
                                                             {"3/4 of it", 0.75},
                                                             {"#### 5\n#### 6", 6},
                                                             {"\\boxed{1} or \\boxed{2}", 2},
                                                             {"A: 18", 18}};
  for (const auto& [text, value] : cases) {
    const auto found = extract_answer(text);
    ASSERT_TRUE(found.has_value()) << text;
    EXPECT_TRUE(same_number(*found, value)) << text << " -> " << *found;
  }
}

TEST(Answer, SaysWhenThereIsNone) {
  for (const char* text : {"", "no number", "\\boxed{", "#### ", "\\boxed{x}", "-", "."})
    EXPECT_FALSE(extract_answer(text).has_value()) << text;
}

TEST(Answer, RandomBytesNeverThrow) {
  RandomStream random(1);
  const std::string alphabet = "0123456789.,-+/eE$\\{}#boxedfrac answer is:\xE2\x88\x92\xff";
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (int64_t k = random.next_int(0, 24); k > 0; --k)
      text += alphabet[static_cast<size_t>(
          random.next_int(0, static_cast<int64_t>(alphabet.size()) - 1))];
    extract_answer(text);
  }
}

}  // namespace
}  // namespace meed
