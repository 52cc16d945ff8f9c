#include <cstdlib>

// LibTorch keeps bfloat16 products that it has prepared for their shapes: 1024 in ATen's cache and
// as many in oneDNN's, some 100 kB each. Packed batches have other shapes at every step, so both
// would only fill up, by several MB a step. One step has some tens of shapes. Both are read from
// the environment at the first product; what the user set stays.
namespace meed {
namespace {

const bool bounded = [] {
  constexpr int kKeep = 0;
  ::setenv("LRU_CACHE_CAPACITY", "64", kKeep);
  ::setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64", kKeep);
  return true;
}();

}  // namespace
}  // namespace meed
