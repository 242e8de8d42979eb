// From a tensor's dtype to a kernel's values, and whether they can be moved a few at a time.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "checks.h"
#include "kernels/wide_values.h"
#include "simt/simt.h"

namespace mfgan::gpu {

// Calls `body` with a value of a dtype, which is no float64.
template <typename Body>
void with_value(ScalarType type, Body body) {
  if (type == ScalarType::BFloat16) {
    body(simt::bf16());
  } else if (type == ScalarType::Half) {
    body(simt::half());
  } else {
    body(float());
  }
}

// Whether arrays begin where the widest load may; one that is missing does.
inline bool all_aligned(std::initializer_list<const void*> arrays) {
  for (const void* at : arrays)
    if (reinterpret_cast<uintptr_t>(at) % kWidestBytes != 0) return false;
  return true;
}

}  // namespace mfgan::gpu
