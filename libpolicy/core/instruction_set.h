#pragma once

namespace meed {

/// What the processor can do, as far as the kernels are compiled for it: AVX2 with FMA and BMI2
/// (x86-64-v3), AVX-512 with BW, DQ, VL and CD (x86-64-v4).
enum class InstructionSet { kPortable, kAvx2, kAvx512 };

InstructionSet instruction_set();

}  // namespace meed
