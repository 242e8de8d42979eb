// What the forward and the backward kernels share: tiles of tokens in shared memory, the bounds of
// a token's session, and which keys a query sees.
//
// Tiles run over the packed tokens, whatever sessions they belong to: a tile of 64 tokens may hold
// ten sessions of six, and a mask keeps them apart. Short sessions so fill the tensor cores as far
// as their tokens go, and a batch needs no grid of sessions and no longest one.
#pragma once

#include "kernels/attention_params.h"
#include "kernels/softmax.cuh"
#include "rng.h"

namespace mfgan::gpu {

struct Bounds {
  int64_t begin, end;
};

// The session of a token; empty sessions own none. Past the last token: an empty range.
__device__ __forceinline__ Bounds session_of(const AttentionParams& p, int64_t token) {
  if (token >= p.total_tokens) return {token, token};
  int low = 0, high = p.num_sessions;  // cu_seqlens[low] <= token < cu_seqlens[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (p.cu_seqlens[middle] <= token) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return {p.cu_seqlens[low], p.cu_seqlens[high]};
}

// Starts to bring `kRows` tokens of one head to shared memory, zero beyond the data. The caller
// commits, waits and synchronises.
template <typename Arithmetic, int kDim, int kRows>
__device__ __forceinline__ void load_tile(typename Arithmetic::Value* tile,
                                          const typename Arithmetic::Value* head, int64_t stride,
                                          int64_t first, const AttentionParams& p) {
  using Value = typename Arithmetic::Value;
  constexpr int kStride = kRowStride<Arithmetic, kDim>;
  constexpr int kWide = 16 / static_cast<int>(sizeof(Value));
  if (p.wide_loads) {
    for (int i = threadIdx.x; i < kRows * (kDim / kWide); i += blockDim.x) {
      const int row = i / (kDim / kWide), column = i % (kDim / kWide) * kWide;
      const bool valid = first + row < p.total_tokens && column < p.head_dim;
      const Value* from = head + (valid ? (first + row) * stride + column : 0);
      simt::cp_async16(tile + row * kStride + column, from, valid);
    }
  } else {
    for (int i = threadIdx.x; i < kRows * kDim; i += blockDim.x) {
      const int row = i / kDim, column = i % kDim;
      const bool valid = first + row < p.total_tokens && column < p.head_dim;
      tile[row * kStride + column] =
          valid ? head[(first + row) * stride + column] : simt::from_float<Value>(0.0f);
    }
  }
}

// Whether `query` sees `key`; `session` is the one of either of the two.
__device__ __forceinline__ bool sees(bool causal, int64_t query, int64_t key,
                                     const Bounds& session) {
  return query >= session.begin && query < session.end && key >= session.begin &&
         key < session.end && (!causal || key <= query);
}

__device__ __forceinline__ int distance_index(const AttentionParams& p, int64_t query,
                                              int64_t key) {
  const int64_t distance = query > key ? query - key : key - query;
  return static_cast<int>(distance < p.num_distances ? distance : p.num_distances - 1);
}

__device__ __forceinline__ RowKey attention_row_key(const AttentionParams& p, int64_t query,
                                                    int head) {
  return row_key(p.rng[0], p.rng[1], p.site, query * p.num_heads + head);
}

// Writes 16 rows of a warp; `first` is the token of its row 0.
template <typename Value, int kDim>
__device__ __forceinline__ void store_rows(Value* out, const float (&acc)[kDim / 8][4],
                                           int64_t first, int head, const float (&factor)[2],
                                           const AttentionParams& p) {
#pragma unroll
  for (int d = 0; d < kDim / 8; ++d) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int64_t token = first + element_row(e);
      const int column = element_column(d, e);
      if (token < p.total_tokens && column < p.head_dim) {
        out[(token * p.num_heads + head) * p.head_dim + column] =
            simt::from_float<Value>(acc[d][e] * factor[e / 2]);
      }
    }
  }
}

}  // namespace mfgan::gpu
