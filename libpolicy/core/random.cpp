#include "libpolicy/core/random.h"

#include "libpolicy/core/error.h"

namespace meed {
namespace {

// The finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection with full avalanche.
uint64_t scramble(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

uint64_t mix_seed(std::initializer_list<uint64_t> parts) {
  uint64_t seed = 0x6d656564;
  for (const uint64_t part : parts) seed = scramble(seed ^ scramble(part));
  return seed;
}

double uniform(uint64_t seed, uint64_t counter) {
  const uint64_t bits = scramble(scramble(seed) + scramble(counter) * 0x9e3779b97f4a7c15ULL);
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

int64_t RandomStream::next_int(int64_t low, int64_t high) {
  MEED_CHECK(low <= high, "empty range");
  const double width = static_cast<double>(high - low) + 1.0;
  return low + static_cast<int64_t>(next() * width);
}

}  // namespace meed
