// The dynamic shared memory that every launch asks for, from the code that plans it: a line `KERNEL
// ARITHMETIC HEAD_SIZE BYTES` each, the most over all sizes that the launch may meet.
#pragma once

#include <cstddef>
#include <cstdio>

#include "kernels/arithmetic.h"

namespace mfgan::gpu {

inline void print(const char* kernel, const char* arithmetic, int head_size, size_t bytes) {
  std::printf("%s %s %d %zu\n", kernel, arithmetic, head_size, bytes);
}

// Calls `print(arithmetic, head size, name)` for every instantiation.
template <typename Print>
void for_each_instantiation(Print print) {
  const auto of = [&](auto arithmetic, const char* name) {
    print(arithmetic, std::integral_constant<int, 32>(), name);
    print(arithmetic, std::integral_constant<int, 64>(), name);
    print(arithmetic, std::integral_constant<int, 128>(), name);
  };
  of(Half<simt::bf16>(), "bf16");
  of(Half<simt::half>(), "fp16");
  of(Tf32(), "tf32");
  of(Exact(), "exact");
}

}  // namespace mfgan::gpu
