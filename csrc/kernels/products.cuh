// The two matrix products of attention on one warp's tile of 16 rows, for each kind of arithmetic.
//
//   add_nt: acc (16 x 8 n) += A (16 x kDim) . B (8 n x kDim)^T      rows of B lie in shared memory
//   add_nn: acc (16 x kDim) += P (16 x 8 n) . B (8 n x kDim)        P lies in registers
//
// Accumulators have the layout of mma.m16n8 in all of them: lane l holds, of each tile of 8
// columns, columns 2 (l % 4) and the next of row l / 4 in [0], [1] and of row l / 4 + 8 in [2],
// [3].
#pragma once

#include "kernels/arithmetic.h"

namespace mfgan::gpu {

constexpr int kWarpRows = 16;

// Values from one row of a tile in shared memory to the next: 16 bytes of padding keep the eight
// rows that a warp reads together in different banks.
template <typename Arithmetic, int kDim>
constexpr int kRowStride = kDim + 16 / static_cast<int>(sizeof(typename Arithmetic::Value));

__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x % 32); }

// The A operand: 16 rows, held in registers where they are few enough, else read when needed.
template <typename Arithmetic, int kDim>
struct RowOperand {
  const float* rows = nullptr;

  __device__ __forceinline__ void load(const float* tile) {
    rows = tile + lane_index() / 4 * kRowStride<Arithmetic, kDim>;
  }
};

template <typename T, int kDim>
struct RowOperand<Half<T>, kDim> {
  uint32_t fragments[kDim / 16][4];

  __device__ __forceinline__ void load(const T* tile) {
    const int lane = lane_index();
    const T* row = tile + lane % 16 * kRowStride<Half<T>, kDim> + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) simt::ldmatrix_x4(fragments[k], row + k * 16);
  }
};

template <typename T, int kDim, int kTiles>
__device__ __forceinline__ void add_nt(float (&acc)[kTiles][4], const RowOperand<Half<T>, kDim>& a,
                                       const T* b) {
  static_assert(kTiles % 2 == 0, "one load brings two tiles of eight columns");
  const int lane = lane_index();
  const T* row = b + (lane / 16 * 8 + lane % 8) * kRowStride<Half<T>, kDim> + lane / 8 % 2 * 8;
#pragma unroll
  for (int n = 0; n < kTiles; n += 2) {
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      uint32_t pair[4];
      simt::ldmatrix_x4(pair, row + n * 8 * kRowStride<Half<T>, kDim> + k * 16);
      simt::mma_m16n8k16<T>(acc[n], a.fragments[k], pair);
      simt::mma_m16n8k16<T>(acc[n + 1], a.fragments[k], pair + 2);
    }
  }
}

template <typename T, int kDimTiles, int kTiles>
__device__ __forceinline__ void add_nn(Half<T>, float (&acc)[kDimTiles][4],
                                       const float (&p)[kTiles][4], const T* b) {
  const int lane = lane_index();
  const T* row = b + lane % 16 * kRowStride<Half<T>, kDimTiles * 8> + lane / 16 * 8;
#pragma unroll
  for (int k = 0; k < kTiles / 2; ++k) {
    const float (&left)[4] = p[2 * k];
    const float (&right)[4] = p[2 * k + 1];
    const uint32_t a[4] = {simt::pack2<T>(left[0], left[1]), simt::pack2<T>(left[2], left[3]),
                           simt::pack2<T>(right[0], right[1]), simt::pack2<T>(right[2], right[3])};
#pragma unroll
    for (int d = 0; d < kDimTiles; d += 2) {
      uint32_t pair[4];
      simt::ldmatrix_x4_trans(pair, row + k * 16 * kRowStride<Half<T>, kDimTiles * 8> + d * 8);
      simt::mma_m16n8k16<T>(acc[d], a, pair);
      simt::mma_m16n8k16<T>(acc[d + 1], a, pair + 2);
    }
  }
}

template <int kDim, int kTiles>
__device__ __forceinline__ void add_nt(float (&acc)[kTiles][4], const RowOperand<Tf32, kDim>& a,
                                       const float* b) {
  constexpr int kStride = kRowStride<Tf32, kDim>;
  const int lane = lane_index(), group = lane / 4, place = lane % 4;
#pragma unroll
  for (int k = 0; k < kDim; k += 8) {
    const float* left = a.rows + k + place;
    const uint32_t fragment[4] = {simt::to_tf32(left[0]), simt::to_tf32(left[8 * kStride]),
                                  simt::to_tf32(left[4]), simt::to_tf32(left[8 * kStride + 4])};
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const float* right = b + (n * 8 + group) * kStride + k + place;
      const uint32_t pair[2] = {simt::to_tf32(right[0]), simt::to_tf32(right[4])};
      simt::mma_m16n8k8_tf32(acc[n], fragment, pair);
    }
  }
}

// The product may take its inner index in any order: with index t standing for column 2 t and
// t + 4 for column 2 t + 1, an accumulator is an A fragment as it stands.
template <int kDimTiles, int kTiles>
__device__ __forceinline__ void add_nn(Tf32, float (&acc)[kDimTiles][4],
                                       const float (&p)[kTiles][4], const float* b) {
  constexpr int kStride = kRowStride<Tf32, kDimTiles * 8>;
  const int lane = lane_index(), group = lane / 4, place = lane % 4;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const uint32_t fragment[4] = {simt::to_tf32(p[n][0]), simt::to_tf32(p[n][2]),
                                  simt::to_tf32(p[n][1]), simt::to_tf32(p[n][3])};
    const float* right = b + (n * 8 + 2 * place) * kStride + group;
#pragma unroll
    for (int d = 0; d < kDimTiles; ++d) {
      const uint32_t pair[2] = {simt::to_tf32(right[d * 8]), simt::to_tf32(right[kStride + d * 8])};
      simt::mma_m16n8k8_tf32(acc[d], fragment, pair);
    }
  }
}

template <int kDim, int kTiles>
__device__ __forceinline__ void add_nt(float (&acc)[kTiles][4], const RowOperand<Exact, kDim>& a,
                                       const float* b) {
  constexpr int kStride = kRowStride<Exact, kDim>;
  const float* columns = b + lane_index() % 4 * 2 * kStride;
#pragma unroll 2
  for (int k = 0; k < kDim; k += 4) {
    const float4 low = *reinterpret_cast<const float4*>(a.rows + k);
    const float4 high = *reinterpret_cast<const float4*>(a.rows + 8 * kStride + k);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float4 x = *reinterpret_cast<const float4*>(columns + (n * 8 + i) * kStride + k);
        acc[n][i] += low.x * x.x + low.y * x.y + low.z * x.z + low.w * x.w;
        acc[n][2 + i] += high.x * x.x + high.y * x.y + high.z * x.z + high.w * x.w;
      }
    }
  }
}

template <int kDimTiles, int kTiles>
__device__ __forceinline__ void add_nn(Exact, float (&acc)[kDimTiles][4],
                                       const float (&p)[kTiles][4], const float* b) {
  constexpr int kStride = kRowStride<Exact, kDimTiles * 8>;
  const int lane = lane_index();
  const float* columns = b + lane % 4 * 2;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int owner = (lane & ~3) | i / 2;
      const float low = __shfl_sync(0xffffffffu, p[n][i % 2], owner);
      const float high = __shfl_sync(0xffffffffu, p[n][2 + i % 2], owner);
#pragma unroll
      for (int d = 0; d < kDimTiles; ++d) {
        const float2 x = *reinterpret_cast<const float2*>(columns + (n * 8 + i) * kStride + d * 8);
        acc[d][0] += low * x.x;
        acc[d][1] += low * x.y;
        acc[d][2] += high * x.x;
        acc[d][3] += high * x.y;
      }
    }
  }
}

}  // namespace mfgan::gpu
