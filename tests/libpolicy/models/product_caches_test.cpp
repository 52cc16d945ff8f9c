#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <fstream>
#include <string>

namespace meed {
namespace {

/// Without what was freed already.
int64_t resident_kb() {
  ::malloc_trim(0);
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word)
    if (word == "VmRSS:") break;
  int64_t kb = 0;
  status >> kb;
  return kb;
}

TEST(ProductCaches, ProductsOfEverNewShapesDoNotFillTheMemory) {
  const auto weight = at::randn({64, 96}).to(at::kBFloat16);
  const auto multiply = [&](int64_t from, int64_t to) {
    for (int64_t rows = from; rows < to; ++rows)
      at::mm(at::ones({rows, 64}, at::kBFloat16), weight);
  };
  multiply(1, 200);
  const int64_t before = resident_kb();
  multiply(200, 900);
  EXPECT_LT(resident_kb() - before, 16 << 10);
}

}  // namespace
}  // namespace meed
