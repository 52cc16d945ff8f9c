#include "libpolicy/models/kernels.h"

// The vector types are never passed between translation units.
#pragma GCC diagnostic ignored "-Wpsabi"

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#pragma GCC target("arch=x86-64-v4")
namespace meed::kernels::v4 {
#include "libpolicy/models/kernels.inl"
}
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#pragma GCC target("arch=x86-64-v3")
namespace meed::kernels::v3 {
#include "libpolicy/models/kernels.inl"
}
#pragma GCC pop_options
#endif
namespace meed::kernels::base {
#include "libpolicy/models/kernels.inl"
}

namespace meed::kernels {
namespace {

enum class Level { kBase, kV3, kV4 };

Level detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512cd"))
    return Level::kV4;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2"))
    return Level::kV3;
#endif
  return Level::kBase;
}

const Level level = detect();

}  // namespace

#if defined(__x86_64__)
#define MEED_DEFINE(R, name, params, args)         \
  R name params {                                  \
    if (level == Level::kV4) return v4::name args; \
    if (level == Level::kV3) return v3::name args; \
    return base::name args;                        \
  }
#else
#define MEED_DEFINE(R, name, params, args) \
  R name params { return base::name args; }
#endif
MEED_KERNEL_LIST(MEED_DEFINE)
#undef MEED_DEFINE

}  // namespace meed::kernels
