// A warp's 16 rows of accumulators: where their elements stand, and a softmax kept online over
// them.
#pragma once

#include "kernels/products.cuh"

namespace mfgan::gpu {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

// Where an accumulator's element stands in its 16 x 8 n tile.
__device__ __forceinline__ int element_row(int element) {
  return lane_index() / 4 + element / 2 * 8;
}
__device__ __forceinline__ int element_column(int tile, int element) {
  return tile * 8 + lane_index() % 4 * 2 + element % 2;
}

// Sums or maximises over the four lanes that share a row.
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

// A warp may leave out chunks of columns that none of its rows sees: bit c of `active` is chunk c.
constexpr int kChunkTiles = 2;
constexpr unsigned kAllChunks = ~0u;

__device__ __forceinline__ bool is_active(unsigned active, int tile) {
  return active >> (tile / kChunkTiles) & 1;
}

// The running softmax of a warp's 16 rows; a lane keeps two of them.
template <int kDim>
struct OnlineSoftmax {
  float acc[kDim / 8][4] = {};
  float peak[2] = {-INFINITY, -INFINITY};
  float total[2] = {};

  // Turns logits (in units of log 2, -inf where masked) into weights and rescales what came before.
  template <int kTiles>
  __device__ __forceinline__ void step(float (&logits)[kTiles][4], unsigned active = kAllChunks) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float highest = peak[half];
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        if (!is_active(active, n)) continue;
        highest = fmaxf(highest, fmaxf(logits[n][2 * half], logits[n][2 * half + 1]));
      }
      highest = quad_max(highest);
      // A row that has seen no key yet has no peak to subtract.
      const float base = highest == -INFINITY ? 0.0f : highest;
      const float rescale = simt::exp2_of(peak[half] - base);
      peak[half] = highest;
      total[half] *= rescale;
#pragma unroll
      for (int d = 0; d < kDim / 8; ++d) {
        acc[d][2 * half] *= rescale;
        acc[d][2 * half + 1] *= rescale;
      }
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        if (!is_active(active, n)) continue;
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          logits[n][e] = simt::exp2_of(logits[n][e] - base);
          total[half] += logits[n][e];
        }
      }
    }
  }
};

}  // namespace mfgan::gpu
