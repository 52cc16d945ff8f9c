#include "libpolicy/text/math_expression.h"

#include <gtest/gtest.h>

#include <random>

#include "libpolicy/text/answer.h"
#include "libpolicy/text/answer_comparison.h"

namespace meed {
namespace {

TEST(MathExpression, AnswersThatMeanTheSame) {
  const std::pair<const char*, const char*> same[] = {
      {"1/2", "0.5"},
      {"\\frac{1}{2}", "0.5"},
      {"\\dfrac12", "\\frac{2}{4}"},
      {"-\\frac{3}{4}", "-0.75"},
      {"2\\frac{1}{2}", "2.5"},
      {"2 1/2", "\\frac52"},
      {"1,234", "1234"},
      {"1{,}234.50", "1234.5"},
      {"$1,234", "1234 dollars"},
      {"50\\%", "50"},
      {"50%", "0.5"},
      {"50%", "50\\%"},
      {"3\\sqrt{2}", "\\sqrt{18}"},
      {"\\sqrt[3]{-8}", "-2"},
      {"2\\pi", "2 * pi"},
      {"x^2 - 1", "(x-1)(x+1)"},
      {"x = 5", "5"},
      {"f(x) = 2x+1", "1 + 2x"},
      {"5!", "120"},
      {"(1, 2)", "\\left(1, \\frac{4}{2}\\right)"},
      {"[0, 1)", "[0,1)"},
      {"\\{1, 2, 3\\}", "\\{3,1,2\\}"},
      {"1, 2", "2, 1"},
      {"1 \\pm \\sqrt{2}", "1-\\sqrt2, 1+\\sqrt2"},
      {"3 \\times 10^{5}", "3e5"},
      {"5 cm", "50 mm"},
      {"5\\text{ cm}^2", "500 mm^2"},
      {"12 apples", "12"},
      {"90^\\circ", "90"},
      {"90^{\\circ}", "90 degrees"},
      {"(C)", "C"},
      {"c.", "(C)"},
      {"\\text{(B)}", "B"},
      {"paris", "Paris."},
      {"\\text{Evelyn}", "Evelyn"},
      {"2 m", "200 cm"},
      {"e^{i\\pi}", "-1"},
      {"\\frac{x}{2}+\\frac{x}{3}", "5x/6"},
      {"|{-3}|", "3"},
      {"\xE2\x88\x92" "3", "-3"},
  };
  for (const auto& [a, b] : same) {
    EXPECT_TRUE(compare_answers(a, b).equal) << a << " / " << b;
    EXPECT_TRUE(compare_answers(b, a).equal) << b << " / " << a;
    EXPECT_EQ(compare_answers(a, b).confidence, 1.0) << a << " / " << b;
  }
}

TEST(MathExpression, AnswersThatDiffer) {
  const std::pair<const char*, const char*> different[] = {
      {"1/3", "0.33"},         {"x^2", "x^3"},   {"(1,2)", "(2,1)"}, {"[0,1)", "[0,1]"},
      {"\\{1,2\\}", "\\{1\\}"}, {"5 cm", "5 kg"}, {"5 m", "5 cm"},    {"A", "B"},
      {"Paris", "London"},     {"2", "-2"},      {"", "5"},          {"no answer", "5"},
      {"x+1", "5"},            {"1/0", "1/0.0 + 1"}, {"5 apples", "6 apples"}};
  for (const auto& [a, b] : different) EXPECT_FALSE(compare_answers(a, b).equal) << a << " / " << b;
  EXPECT_EQ(compare_answers("something", "5").confidence, 0.0);
  EXPECT_EQ(compare_answers("", "5").confidence, 0.0);
}

TEST(MathExpression, AnswersAreFoundWhereTheyStand) {
  const auto text = [](const char* completion) {
    const auto found = find_answer(completion);
    return found ? found->text + (found->marked ? " !" : "") : "none";
  };
  EXPECT_EQ(text("so \\boxed{1} or \\boxed{\\frac{1}{2}} end"), "\\frac{1}{2} !");
  EXPECT_EQ(text("<think>3</think><answer> 4 </answer>"), "4 !");
  EXPECT_EQ(text("a = 48/2\n#### 1,072\n"), "1,072 !");
  EXPECT_EQ(text("The answer is 3.5. Good bye."), "3.5 !");
  EXPECT_EQ(text("**Answer:** 12"), "12 !");
  EXPECT_EQ(text("7"), "7");
  EXPECT_EQ(text("we get 3 and then -4 in all"), "-4");
  EXPECT_EQ(text("that is a rise of 12.5% in a very long sentence indeed, sir."), "12.5%");
  EXPECT_EQ(text(""), "none");
  EXPECT_EQ(text("\\boxed{"), "\\boxed{");
}

TEST(MathExpression, HostileTextIsRead) {
  EXPECT_FALSE(MathExpression::parse(std::string(100000, '(')));
  EXPECT_FALSE(MathExpression::parse(std::string(4000, '(')));
  EXPECT_FALSE(MathExpression::parse(std::string(4000, '-')));
  EXPECT_FALSE(compare_answers("9^9^9^9^9", "9^9^9^9^9 + 1").equal);
  EXPECT_FALSE(compare_answers("170!!", "1").equal);
  EXPECT_FALSE(MathExpression::parse("\xff\xfe"));
  std::mt19937 random(1);
  const std::string_view pieces[] = {"\\frac", "{", "}", "1", "x", "^", "(", ")", ",", "\\sqrt", "[",
                                     "]", "\\text{", "\\pm", "%", "!", "=", " ", ".", "e", "-", "|",
                                     "\\{", "\\}", "####", "\\boxed{", "cm", "\xE2\x88\x92", "\xff"};
  for (int i = 0; i < 20000; ++i) {
    std::string a, b;
    for (int n = 0; n < 12; ++n) a += pieces[random() % std::size(pieces)];
    for (int n = 0; n < 6; ++n) b += pieces[random() % std::size(pieces)];
    compare_answers(a, b);
    find_answer(a);
  }
}

}  // namespace
}  // namespace meed
