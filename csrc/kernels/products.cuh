// The two matrix products of attention on one warp's tile of 16 rows, for each kind of arithmetic.
//
//   add_nt: acc (16 x 8 n) += A (16 x kDim) . B (8 n x kDim)^T      rows of B lie in shared memory
//   add_nn: acc (16 x kDim) += P (16 x 8 n) . B (8 n x kDim)        P lies in registers
//
// Accumulators have the layout of mma.m16n8 in all of them: lane l holds, of each tile of 8
// columns, columns 2 (l % 4) and the next of row l / 4 in [0], [1] and of row l / 4 + 8 in [2],
// [3]. The number of tiles n is even. add_nt_tiles and add_nn_tiles take the first of n tiles.
#pragma once

#include "kernels/arithmetic.h"

namespace mfgan::gpu {

constexpr int kWarpRows = 16;

// Values that 16 bytes hold: one row of an 8 x 8 tile as ldmatrix reads it.
template <typename Arithmetic>
constexpr int kWide = 16 / static_cast<int>(sizeof(typename Arithmetic::Value));

// Values from one row of a tile in shared memory to the next: 16 bytes of padding keep the eight
// rows that a warp reads together in different banks.
template <typename Arithmetic, int kDim>
constexpr int kRowStride = kDim + kWide<Arithmetic>;

// ldmatrix reads eight rows of 16 bytes in one phase. An odd number of such pieces from one row to
// the next puts them in four banks each of the 32.
template <typename Arithmetic, int kDim>
constexpr bool kOneRowABank = kRowStride<Arithmetic, kDim> / kWide<Arithmetic> % 2 == 1 &&
                              kRowStride<Arithmetic, kDim> % kWide<Arithmetic> == 0;

// The inner size of one tensor-core product.
template <typename Arithmetic>
constexpr int kDepth = 2 * kWide<Arithmetic>;

__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x % 32); }

template <typename T>
__device__ __forceinline__ void multiply(Half<T>, float (&acc)[4], const uint32_t (&a)[4],
                                         const uint32_t* b) {
  simt::mma_m16n8k16<T>(acc, a, b);
}
__device__ __forceinline__ void multiply(Tf32, float (&acc)[4], const uint32_t (&a)[4],
                                         const uint32_t* b) {
  simt::mma_m16n8k8_tf32(acc, a, b);
}

// Four 8 x 8 tiles (of 16-bit values; 8 x 4 of float32, rounded on the way) as fragments.
template <typename T>
__device__ __forceinline__ void load_fragments(Half<T>, uint32_t (&r)[4], const T* row) {
  simt::ldmatrix_x4(r, row);
}
__device__ __forceinline__ void load_fragments(Tf32, uint32_t (&r)[4], const float* row) {
  simt::ldmatrix_x4(r, row);
#pragma unroll
  for (int i = 0; i < 4; ++i) r[i] = simt::to_tf32(simt::float_of(r[i]));
}

// The A operand, 16 rows: `kHeld` in registers, or read from shared memory at each use.
template <typename Arithmetic, int kDim, bool kHeld = true>
struct RowOperand {
  using Value = typename Arithmetic::Value;
  const Value* row = nullptr;

  __device__ __forceinline__ void load(const Value* tile) {
    const int lane = lane_index();
    row = tile + lane % 16 * kRowStride<Arithmetic, kDim> + lane / 16 * kWide<Arithmetic>;
  }
  __device__ __forceinline__ void fragment(int k, uint32_t (&a)[4]) const {
    load_fragments(Arithmetic{}, a, row + k * kDepth<Arithmetic>);
  }
};

template <typename T, int kDim>
struct RowOperand<Half<T>, kDim, true> {
  uint32_t fragments[kDim / 16][4];

  __device__ __forceinline__ void load(const T* tile) {
    RowOperand<Half<T>, kDim, false> rows;
    rows.load(tile);
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) rows.fragment(k, fragments[k]);
  }
  __device__ __forceinline__ void fragment(int k, uint32_t (&a)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = fragments[k][i];
  }
};

template <int kDim, bool kHeld>
struct RowOperand<Exact, kDim, kHeld> {
  const float* rows = nullptr;

  __device__ __forceinline__ void load(const float* tile) {
    rows = tile + lane_index() / 4 * kRowStride<Exact, kDim>;
  }
};

template <int kTiles, typename Arithmetic, int kDim, bool kHeld>
__device__ __forceinline__ void add_nt_tiles(float (*acc)[4],
                                             const RowOperand<Arithmetic, kDim, kHeld>& a,
                                             const typename Arithmetic::Value* b) {
  constexpr int kStride = kRowStride<Arithmetic, kDim>;
  static_assert(kOneRowABank<Arithmetic, kDim>, "rows read together must lie in different banks");
  const int lane = lane_index();
  const auto* row = b + (lane / 16 * 8 + lane % 8) * kStride + lane / 8 % 2 * kWide<Arithmetic>;
#pragma unroll
  for (int k = 0; k < kDim / kDepth<Arithmetic>; ++k) {
    uint32_t left[4];
    a.fragment(k, left);
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      uint32_t pair[4];
      load_fragments(Arithmetic{}, pair, row + n * 8 * kStride + k * kDepth<Arithmetic>);
      multiply(Arithmetic{}, acc[n], left, pair);
      multiply(Arithmetic{}, acc[n + 1], left, pair + 2);
    }
  }
}

template <int kTiles, typename T, int kDimTiles>
__device__ __forceinline__ void add_nn_tiles(Half<T>, float (&acc)[kDimTiles][4],
                                             const float (*p)[4], const T* b) {
  constexpr int kStride = kRowStride<Half<T>, kDimTiles * 8>;
  const int lane = lane_index();
  const T* row = b + lane % 16 * kStride + lane / 16 * 8;
#pragma unroll
  for (int k = 0; k < kTiles / 2; ++k) {
    const float (&left)[4] = p[2 * k];
    const float (&right)[4] = p[2 * k + 1];
    const uint32_t a[4] = {simt::pack2<T>(left[0], left[1]), simt::pack2<T>(left[2], left[3]),
                           simt::pack2<T>(right[0], right[1]), simt::pack2<T>(right[2], right[3])};
#pragma unroll
    for (int d = 0; d < kDimTiles; d += 2) {
      uint32_t pair[4];
      simt::ldmatrix_x4_trans(pair, row + k * 16 * kStride + d * 8);
      simt::mma_m16n8k16<T>(acc[d], a, pair);
      simt::mma_m16n8k16<T>(acc[d + 1], a, pair + 2);
    }
  }
}

// The product may take its inner index in any order: with index t standing for column 2 t and
// t + 4 for column 2 t + 1, an accumulator is an A fragment as it stands.
template <int kTiles, int kDimTiles>
__device__ __forceinline__ void add_nn_tiles(Tf32, float (&acc)[kDimTiles][4], const float (*p)[4],
                                             const float* b) {
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

template <int kTiles, int kDim, bool kHeld>
__device__ __forceinline__ void add_nt_tiles(float (*acc)[4],
                                             const RowOperand<Exact, kDim, kHeld>& a,
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

template <int kTiles, int kDimTiles>
__device__ __forceinline__ void add_nn_tiles(Exact, float (&acc)[kDimTiles][4], const float (*p)[4],
                                             const float* b) {
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

template <int kTiles, typename Arithmetic, int kDim, bool kHeld>
__device__ __forceinline__ void add_nt(float (&acc)[kTiles][4],
                                       const RowOperand<Arithmetic, kDim, kHeld>& a,
                                       const typename Arithmetic::Value* b) {
  add_nt_tiles<kTiles>(acc, a, b);
}

template <int kTiles, typename Arithmetic, int kDimTiles>
__device__ __forceinline__ void add_nn(Arithmetic arithmetic, float (&acc)[kDimTiles][4],
                                       const float (&p)[kTiles][4],
                                       const typename Arithmetic::Value* b) {
  add_nn_tiles<kTiles>(arithmetic, acc, p, b);
}

}  // namespace mfgan::gpu
