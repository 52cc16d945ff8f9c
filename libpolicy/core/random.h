#pragma once

#include <cstdint>
#include <initializer_list>

namespace meed {

/// A seed from several numbers (run seed, row, index ...); order matters.
uint64_t mix_seed(std::initializer_list<uint64_t> parts);

/// Uniform in [0, 1) with 53 random bits: draw `counter` of the stream `seed`. No hidden state,
/// so a sequence's draws do not depend on its neighbours.
double uniform(uint64_t seed, uint64_t counter);

/// A stream of draws over uniform(); its whole state is (seed, counter).
class RandomStream {
 public:
  explicit RandomStream(uint64_t seed, uint64_t counter = 0) : seed_(seed), counter_(counter) {}
  double next() { return uniform(seed_, counter_++); }
  /// Uniform integer in [low, high].
  int64_t next_int(int64_t low, int64_t high);
  uint64_t counter() const { return counter_; }

 private:
  uint64_t seed_;
  uint64_t counter_;
};

}  // namespace meed
