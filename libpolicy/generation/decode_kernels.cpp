#include "libpolicy/generation/decode_kernels.h"

#include "libpolicy/core/instruction_set.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// The vector types are never passed between translation units.
#pragma GCC diagnostic ignored "-Wpsabi"

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#pragma GCC target("arch=x86-64-v4,avx512bf16,prefer-vector-width=512")
#define MEED_LANES 16
#define MEED_ROWS 8
#define MEED_SUMS 24
#define MEED_DOT 1
namespace meed::decode::dot {
#include "libpolicy/generation/decode_kernels.inl"
}
#undef MEED_DOT
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#pragma GCC target("arch=x86-64-v4,prefer-vector-width=512")
#define MEED_DOT 0
namespace meed::decode::v4 {
#include "libpolicy/generation/decode_kernels.inl"
}
#undef MEED_LANES
#undef MEED_ROWS
#undef MEED_SUMS
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#pragma GCC target("arch=x86-64-v3")
#define MEED_LANES 8
#define MEED_ROWS 4
#define MEED_SUMS 12
namespace meed::decode::v3 {
#include "libpolicy/generation/decode_kernels.inl"
}
#undef MEED_LANES
#undef MEED_ROWS
#undef MEED_SUMS
#undef MEED_DOT
#pragma GCC pop_options
#endif
#define MEED_LANES 4
#define MEED_ROWS 4
#define MEED_SUMS 12
#define MEED_DOT 0
namespace meed::decode::base {
#include "libpolicy/generation/decode_kernels.inl"
}

namespace meed::decode {
namespace {

const InstructionSet level = instruction_set();
#if defined(__x86_64__)
const bool has_dot = level == InstructionSet::kAvx512 && __builtin_cpu_supports("avx512bf16");
#endif

}  // namespace

#if defined(__x86_64__)
#define MEED_DEFINE(R, name, params, args)                      \
  R name params {                                               \
    if (has_dot) return dot::name args;                         \
    if (level == InstructionSet::kAvx512) return v4::name args; \
    if (level == InstructionSet::kAvx2) return v3::name args;   \
    return base::name args;                                     \
  }
#else
#define MEED_DEFINE(R, name, params, args) \
  R name params { return base::name args; }
#endif
MEED_DECODE_KERNELS(MEED_DEFINE)
#undef MEED_DEFINE

}  // namespace meed::decode
