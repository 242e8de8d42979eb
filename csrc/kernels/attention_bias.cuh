// The gradient of a learned bias by distance: sums over the diagonals of the logits' gradients,
// each in a fixed order.
#pragma once

#include "kernels/attention_tile.cuh"

namespace mfgan::gpu {

// Values in shared memory: a float32 tile, one more value a row against bank conflicts.
template <int kRows, int kColumns>
constexpr int kDiagonalTile = kRows * (kColumns + 1);

// Row `first_row + i` and column `first_column + j` of the tile are `distance` apart where
// j = i + shift. Sums these from the first row to the last.
template <int kRows, int kColumns>
__device__ __forceinline__ float sum_diagonal(const float* tile, int shift) {
  float sum = 0.0f;
  const int last = min(kRows, kColumns - shift);
  for (int i = max(0, -shift); i < last; ++i) sum += tile[i * (kColumns + 1) + i + shift];
  return sum;
}

// Adds a tile to the block's part, except the last distance, which stands for all farther ones
// too. A distance is one thread's.
template <int kRows, int kColumns>
__device__ __forceinline__ void add_diagonals(const AttentionParams& p, float* bias_part,
                                              const float* tile, int first_row, int first_column) {
  const int offset = first_row - first_column;
  for (int distance = threadIdx.x; distance < p.num_distances - 1; distance += blockDim.x) {
    float sum = sum_diagonal<kRows, kColumns>(tile, offset - distance);
    if (!p.causal && distance > 0) sum += sum_diagonal<kRows, kColumns>(tile, offset + distance);
    if (sum != 0.0f) bias_part[distance] += sum;
  }
}

// Writes the sum of every thread's `far` to the block's last distance. `scratch` holds a value a
// warp; a barrier stands before and none after.
template <int kWarps>
__device__ __forceinline__ void store_far(const AttentionParams& p, float* bias_part, float far,
                                          float* scratch) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) far += __shfl_xor_sync(0xffffffffu, far, lanes);
  if (lane_index() == 0) scratch[threadIdx.x / 32] = far;
  __syncthreads();  // every warp's sum is there
  if (threadIdx.x != 0) return;
  float sum = 0.0f;
  for (int warp = 0; warp < kWarps; ++warp) sum += scratch[warp];
  bias_part[p.num_distances - 1] = sum;
}

}  // namespace mfgan::gpu
