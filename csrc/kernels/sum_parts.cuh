// The last step of a deterministic reduction over blocks.
#pragma once

#include "simt/simt.h"

namespace mfgan::gpu {

// sums[i] = parts[0][i] + parts[1][i] + ..., in that order. Grid: a thread a value.
__global__ inline void sum_parts(const float* parts, float* sums, int num_parts, int num_values) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= num_values) return;
  float sum = 0.0f;
  for (int part = 0; part < num_parts; ++part) {
    sum += parts[static_cast<int64_t>(part) * num_values + at];
  }
  sums[at] = sum;
}

}  // namespace mfgan::gpu
