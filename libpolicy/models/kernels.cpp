#include "libpolicy/models/kernels.h"

#include "libpolicy/core/instruction_set.h"

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

const InstructionSet level = instruction_set();

}  // namespace

#if defined(__x86_64__)
#define MEED_DEFINE(R, name, params, args)                      \
  R name params {                                               \
    if (level == InstructionSet::kAvx512) return v4::name args; \
    if (level == InstructionSet::kAvx2) return v3::name args;   \
    return base::name args;                                     \
  }
#else
#define MEED_DEFINE(R, name, params, args) \
  R name params { return base::name args; }
#endif
MEED_KERNEL_LIST(MEED_DEFINE)
#undef MEED_DEFINE

}  // namespace meed::kernels
