#include "libpolicy/models/products.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace meed {
namespace {

at::Tensor random(at::IntArrayRef sizes, int64_t seed) {
  at::manual_seed(static_cast<uint64_t>(seed));
  return at::randn(sizes).to(at::kBFloat16);
}

at::Tensor exact(const at::Tensor& a, const at::Tensor& b) {
  return at::mm(a.to(at::kDouble), b.to(at::kDouble));
}

/// Half a unit in bfloat16's last place, and what sums in float32 lose.
void expect_rounded(const at::Tensor& got, const at::Tensor& want) {
  ASSERT_EQ(got.sizes(), want.sizes());
  const auto error = (got.to(at::kDouble) - want).abs();
  const auto bound = want.abs() * (1.0 / 256) + 1e-3;
  EXPECT_TRUE((error <= bound).all().item<bool>()) << (error - bound).max().item<double>();
}

TEST(Products, WidenedFactorsAreMultipliedAndRoundedOnce) {
  const auto a = random({7, 300}, 1), b = random({300, 50}, 2), c = random({50, 300}, 3);
  const auto out = at::empty({7, 50}, a.options());
  widened_product_out(out, a, b);
  expect_rounded(out, exact(a, b));
  widened_product_out(out, a, c.t());
  expect_rounded(out, exact(a, c.t()));
  const auto wide = at::empty({300, 50}, a.options());
  const auto rows = random({7, 50}, 4);
  widened_product_out(wide, a.t(), rows);
  expect_rounded(wide, exact(a.t(), rows));
}

TEST(Products, AWideFactorIsTakenInBlocks) {
  // 131 072 rows leave 64 columns to a block.
  const auto a = random({2, 131072}, 1), b = random({131072, 150}, 2);
  const auto out = at::empty({2, 150}, a.options());
  widened_product_out(out, a, b);
  expect_rounded(out, exact(a, b));
  const auto columns = random({150, 131072}, 3);
  widened_product_out(out, a, columns.t());
  expect_rounded(out, exact(a, columns.t()));
  // Into a part of a wider matrix.
  const auto whole = at::zeros({2, 160}, a.options());
  widened_product_out(whole.narrow(1, 5, 150), a, b);
  expect_rounded(whole.narrow(1, 5, 150), exact(a, b));
  EXPECT_EQ(whole.narrow(1, 155, 5).abs().sum().item<float>(), 0.0f);
}

TEST(Products, AllWaysAgree) {
  const auto a = random({9, 64}, 1), b = random({64, 33}, 2);
  expect_rounded(product(a, b), exact(a, b));
  const auto out = at::empty({9, 33}, a.options());
  product_out(out, a, b);
  EXPECT_TRUE(at::equal(out, product(a, b)));
  const auto sum = at::full({9, 33}, 5.0f);
  add_product(sum, /*fresh=*/false, a, b);
  expect_rounded(sum - 5.0, exact(a, b));  // the product may be rounded before it is added
  add_product(sum, /*fresh=*/true, a, b);
  expect_rounded(sum, exact(a, b));
  const auto wide = product(a.to(at::kFloat), b.to(at::kFloat));
  EXPECT_EQ(wide.scalar_type(), at::kFloat);
  EXPECT_LT((wide.to(at::kDouble) - exact(a, b)).abs().max().item<double>(), 1e-4);
}

TEST(Products, ATallFactorIsAddedUpInBlocks) {
  // 100 000 rows of 50 are two blocks.
  const auto a = random({3, 100000}, 1), b = random({100000, 50}, 2);
  const auto out = at::empty({3, 50}, a.options());
  widened_product_out(out, a, b);
  expect_rounded(out, exact(a, b));
  // float32 beside bfloat16, and a sum on what is there. Sums of 100 000 terms deviate by 316, of
  // which float32 loses about sqrt(100 000) * 2^-24.
  const auto sum = at::full({3, 50}, 5.0f);
  add_widened_product(sum, /*fresh=*/false, a.to(at::kFloat), b);
  EXPECT_LT((sum.to(at::kDouble) - exact(a, b) - 5.0).abs().max().item<double>(), 5e-2);
  add_widened_product(sum, /*fresh=*/true, a.t().contiguous().t(), b);
  EXPECT_LT((sum.to(at::kDouble) - exact(a, b)).abs().max().item<double>(), 5e-2);
}

TEST(Products, FactorsOfTwoDtypes) {
  const auto a = random({9, 64}, 1), b = random({64, 33}, 2);
  const auto wide_a = a.to(at::kFloat), wide_b = b.to(at::kFloat);
  const auto out = at::empty({9, 33}, a.options()), wide = at::empty({9, 33}, at::kFloat);
  product_out(out, wide_a, b);
  expect_rounded(out, exact(a, b));
  product_out(wide, a, wide_b);
  EXPECT_LT((wide.to(at::kDouble) - exact(a, b)).abs().max().item<double>(), 1e-4);
  add_product(wide, /*fresh=*/false, wide_a, b);
  EXPECT_LT((wide.to(at::kDouble) - 2.0 * exact(a, b)).abs().max().item<double>(), 1e-4);
}

TEST(Products, EmptyFactors) {
  const auto out = product(random({0, 8}, 1), random({8, 4}, 2));
  EXPECT_EQ(out.sizes(), at::IntArrayRef({0, 4}));
}

}  // namespace
}  // namespace meed
