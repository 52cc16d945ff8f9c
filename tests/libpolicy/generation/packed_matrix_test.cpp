#include "libpolicy/generation/packed_matrix.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

namespace meed {
namespace {

using decode::Bf16;

at::Tensor random(at::IntArrayRef shape, int64_t seed, at::ScalarType dtype) {
  return at::randn(shape, at::detail::createCPUGenerator(seed)).to(dtype);
}

template <typename T>
at::Tensor product(const PackedMatrix& matrix, const at::Tensor& x,
                   const decode::Epilogue& e = {}) {
  const auto y = at::zeros({x.size(0), matrix.out_features()}, at::kFloat);
  matrix.multiply(static_cast<const T*>(x.const_data_ptr()), x.size(1), x.size(0),
                  y.data_ptr<float>(), y.size(1), e);
  return y;
}

TEST(PackedMatrix, EqualsTheProduct) {
  for (const int64_t out : {5, 48, 100})
    for (const int64_t rows : {1, 3, 8, 13, 70}) {
      const auto w = random({out, 34}, 1, at::kFloat), x = random({rows, 34}, 2, at::kFloat);
      EXPECT_LT((product<float>(PackedMatrix({w}), x) - at::linear(x, w)).abs().max().item<float>(),
                2e-5);
      const auto wb = w.to(at::kBFloat16), xb = x.to(at::kBFloat16);
      const auto expected = at::linear(xb.to(at::kFloat), wb.to(at::kFloat));
      EXPECT_LT((product<Bf16>(PackedMatrix({wb}), xb) - expected).abs().max().item<float>(), 2e-5);
    }
}

TEST(PackedMatrix, StacksWeightsAndAddsBias) {
  const auto a = random({50, 16}, 1, at::kFloat), b = random({7, 16}, 2, at::kFloat);
  const auto bias = random({57}, 3, at::kFloat), x = random({9, 16}, 4, at::kFloat);
  const auto y = product<float>(PackedMatrix({a, b}), x,
                                {.bias = bias.const_data_ptr<float>(), .scale = 0.5f});
  EXPECT_LT((y - (0.5 * at::linear(x, at::cat({a, b})) + bias)).abs().max().item<float>(), 1e-5);
}

TEST(PackedMatrix, ARowDoesNotDependOnTheOthers) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const PackedMatrix matrix({random({101, 130}, 1, dtype)});
    const auto x = random({75, 130}, 2, dtype);
    const auto run = [&](const at::Tensor& rows) {
      return dtype == at::kFloat ? product<float>(matrix, rows) : product<Bf16>(matrix, rows);
    };
    const auto all = run(x);
    for (const int64_t count : {1, 2, 5, 7, 9, 64, 66})
      for (const int64_t first : {int64_t{0}, int64_t{3}, 75 - count}) {
        if (first + count > 75) continue;
        const auto part = run(x.narrow(0, first, count).contiguous());
        ASSERT_TRUE(at::equal(part, all.narrow(0, first, count)))
            << count << " rows from " << first;
      }
  }
}

}  // namespace
}  // namespace meed
