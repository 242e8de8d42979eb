// From a tensor's dtype to a kernel's arithmetic.
#pragma once

#include "checks.h"
#include "kernels/arithmetic.h"

namespace mfgan::gpu {

// Calls `body` with the arithmetic of a dtype.
template <typename Body>
void with_arithmetic(ScalarType type, bool allow_tf32, Body body) {
  if (type == ScalarType::BFloat16) {
    body(Half<simt::bf16>());
  } else if (type == ScalarType::Half) {
    body(Half<simt::half>());
  } else if (allow_tf32) {
    body(Tf32());
  } else {
    body(Exact());
  }
}

}  // namespace mfgan::gpu
