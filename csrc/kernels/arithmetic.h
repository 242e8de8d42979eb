// The kinds of arithmetic a kernel is instantiated for.
#pragma once

#include "simt/simt.h"

namespace mfgan::gpu {

// float32 as it is, by fused multiply-adds.
struct Exact {
  using Value = float;
};
// float32 rounded to TF32's ten bits of mantissa, on tensor cores.
struct Tf32 {
  using Value = float;
};
// bfloat16 or float16 on tensor cores; sums are float32.
template <typename T>
struct Half {
  using Value = T;
};

}  // namespace mfgan::gpu
