#include "libpolicy/generation/decode_kernels.h"

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

enum class Level { kBase, kV3, kV4, kDot };

Level detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512cd"))
    return __builtin_cpu_supports("avx512bf16") ? Level::kDot : Level::kV4;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2"))
    return Level::kV3;
#endif
  return Level::kBase;
}

const Level level = detect();

}  // namespace

const char* instruction_set() {
  switch (level) {
    case Level::kDot:
      return "avx512-bf16";
    case Level::kV4:
      return "avx512";
    case Level::kV3:
      return "avx2";
    case Level::kBase:
      break;
  }
  return "portable";
}

#if defined(__x86_64__)
#define MEED_DEFINE(R, name, params, args)           \
  R name params {                                    \
    if (level == Level::kDot) return dot::name args; \
    if (level == Level::kV4) return v4::name args;   \
    if (level == Level::kV3) return v3::name args;   \
    return base::name args;                          \
  }
#else
#define MEED_DEFINE(R, name, params, args) \
  R name params { return base::name args; }
#endif
MEED_DECODE_KERNELS(MEED_DEFINE)
#undef MEED_DEFINE

}  // namespace meed::decode
