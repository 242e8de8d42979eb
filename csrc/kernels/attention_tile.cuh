// What the forward and the backward kernels share: tiles of tokens in shared memory, and which
// columns of a tile a row sees.
//
// Tiles run over the packed tokens, whatever sessions they belong to: a tile of 64 tokens may hold
// ten sessions of six, and a mask keeps them apart. Short sessions so fill a tile as far as their
// tokens go, and a batch needs no grid of sessions and no longest one. Each warp multiplies only
// the chunks of 16 columns that its own 16 rows see.
#pragma once

#include "kernels/attention_params.h"
#include "kernels/softmax.cuh"
#include "rng.h"

namespace mfgan::gpu {

constexpr int kChunk = 8 * kChunkTiles;

// Blocks on a multiprocessor, for the compiler to leave registers for that many: it has four
// quarters, and each is to hold `warps_a_quarter`.
constexpr int blocks_of(int warps, int warps_a_quarter) { return 4 * warps_a_quarter / warps; }

// Tokens from `low` up to, not including, `high`. An int holds any token: cu_seqlens is int32.
struct Span {
  int low, high;

  __device__ __forceinline__ bool holds(int token) const { return token >= low && token < high; }
  __device__ __forceinline__ bool meets(int first, int count) const {
    return first < high && first + count > low;
  }
};

// The indices of the sessions that hold `tokens`. The lanes of a warp probe together, so that
// 32,768 sessions take three steps.
template <int kCount>
__device__ __forceinline__ void find_sessions(const AttentionParams& p, const int (&tokens)[kCount],
                                              int (&found)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) found[i] = 0;
  // Session found[i] + width, if there is one, begins after tokens[i].
  for (int width = p.num_sessions; width > 1;) {
    const int step = (width + 31) / 32;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int64_t probe = found[i] + static_cast<int64_t>(lane_index()) * step;
      const bool begun = probe < p.num_sessions && p.cu_seqlens[probe] <= tokens[i];
      found[i] += (max(__popc(__ballot_sync(0xffffffffu, begun)), 1) - 1) * step;
    }
    width = step;
  }
}

// The session of a token, which is one of `first` to `last`.
__device__ __forceinline__ Span session_among(const AttentionParams& p, int token, int first,
                                              int last) {
  while (first < last) {
    const int middle = first + (last - first + 1) / 2;
    if (p.cu_seqlens[middle] <= token) {
      first = middle;
    } else {
      last = middle - 1;
    }
  }
  return {p.cu_seqlens[first], p.cu_seqlens[first + 1]};
}

// The keys that a query sees, or the queries that see a key.
enum class Rows { queries, keys };

template <Rows kRows>
__device__ __forceinline__ Span seen_by(bool causal, int row, const Span& session) {
  if (!causal) return session;
  return kRows == Rows::queries ? Span{session.low, row + 1} : Span{row, session.high};
}

// The rows of a block and of the calling warp, and the columns that they see. Spans begin and end
// later from row to row, so the first and the last row bound a block of them.
struct WarpView {
  int rows[2];       // the lane's own
  Span sessions[2];  // of these rows; empty past the last token
  Span seen[2];
  Span block;  // columns that some row of the block sees

  // Bit c: some row of the warp sees a column of chunk c of the tile that begins at `first`. For
  // the whole warp to ask, as the next one.
  template <int kColumns>
  __device__ __forceinline__ unsigned active_chunks(int first) const {
    unsigned active = 0;
#pragma unroll
    for (int chunk = 0; chunk < kColumns / kChunk; ++chunk) {
      const int begin = first + chunk * kChunk;
      const bool mine = seen[0].meets(begin, kChunk) || seen[1].meets(begin, kChunk);
      if (__any_sync(0xffffffffu, mine)) active |= 1u << chunk;
    }
    return active;
  }
  // Whether no row of the warp needs a mask in these columns.
  __device__ __forceinline__ bool needs_no_mask(int first, int columns) const {
    return __all_sync(0xffffffffu, max(seen[0].low, seen[1].low) <= first &&
                                       first + columns <= min(seen[0].high, seen[1].high));
  }
};

template <Rows kRows, int kWarps>
__device__ __forceinline__ WarpView view_of_warp(const AttentionParams& p, int first_row) {
  const int last = static_cast<int>(p.total_tokens) - 1;
  const int warp_row = first_row + static_cast<int>(threadIdx.x) / 32 * kWarpRows;
  const int edges[4] = {first_row, min(first_row + kWarps * kWarpRows - 1, last),
                        min(warp_row, last), min(warp_row + kWarpRows - 1, last)};
  int sessions[4];
  find_sessions(p, edges, sessions);
  WarpView view;
  const auto seen_by_edge = [&](int i) {
    const Span session = {p.cu_seqlens[sessions[i]], p.cu_seqlens[sessions[i] + 1]};
    return seen_by<kRows>(p.causal, edges[i], session);
  };
  view.block = {seen_by_edge(0).low, seen_by_edge(1).high};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = warp_row + element_row(2 * half);
    view.rows[half] = row;
    view.sessions[half] = view.seen[half] = {0, 0};
    if (row > last) continue;
    view.sessions[half] = session_among(p, row, sessions[2], sessions[3]);
    view.seen[half] = seen_by<kRows>(p.causal, row, view.sessions[half]);
  }
  return view;
}

template <typename Arithmetic, int kDim, int kRows, int kBytes>
__device__ __forceinline__ void copy_tile(typename Arithmetic::Value* tile,
                                          const typename Arithmetic::Value* head, int64_t stride,
                                          int first, int limit, int head_dim) {
  using Value = typename Arithmetic::Value;
  constexpr int kPiece = kBytes / static_cast<int>(sizeof(Value)), kPieces = kDim / kPiece;
  for (int i = threadIdx.x; i < kRows * kPieces; i += blockDim.x) {
    const int row = i / kPieces, column = i % kPieces * kPiece;
    const bool valid = first + row < limit && column < head_dim;
    const Value* from = head + (valid ? (first + row) * stride + column : 0);
    simt::cp_async<kBytes>(tile + row * kRowStride<Arithmetic, kDim> + column, from, valid);
  }
}

// Starts to bring `kRows` tokens of one head to shared memory, zero from token `limit` on and past
// head_dim. The caller commits, waits and synchronises.
template <typename Arithmetic, int kDim, int kRows>
__device__ __forceinline__ void load_tile(typename Arithmetic::Value* tile,
                                          const typename Arithmetic::Value* head, int64_t stride,
                                          int first, int limit, const AttentionParams& p) {
  using Value = typename Arithmetic::Value;
  if (p.load_bytes == 16) {
    copy_tile<Arithmetic, kDim, kRows, 16>(tile, head, stride, first, limit, p.head_dim);
  } else if (p.load_bytes == 8) {
    copy_tile<Arithmetic, kDim, kRows, 8>(tile, head, stride, first, limit, p.head_dim);
  } else if (p.load_bytes == 4) {
    copy_tile<Arithmetic, kDim, kRows, 4>(tile, head, stride, first, limit, p.head_dim);
  } else {
    for (int i = threadIdx.x; i < kRows * kDim; i += blockDim.x) {
      const int row = i / kDim, column = i % kDim;
      const bool valid = first + row < limit && column < p.head_dim;
      tile[row * kRowStride<Arithmetic, kDim> + column] =
          valid ? head[(first + row) * stride + column] : simt::from_float<Value>(0.0f);
    }
  }
}

__device__ __forceinline__ int distance_index(const AttentionParams& p, int row, int column) {
  return min(abs(row - column), p.num_distances - 1);
}

__device__ __forceinline__ RowKey attention_row_key(const AttentionParams& p, int query, int head) {
  return row_key(p.rng[0], p.rng[1], p.site, static_cast<int64_t>(query) * p.num_heads + head);
}

template <typename Value>
struct alignas(2 * sizeof(Value)) ValuePair {
  Value x, y;
};

// Writes the lane's values of its two rows, each row times its factor.
template <typename Value, int kDim>
__device__ __forceinline__ void store_rows(Value* out, const float (&acc)[kDim / 8][4],
                                           const int (&rows)[2], int head, const float (&factor)[2],
                                           const AttentionParams& p) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (rows[half] >= p.total_tokens) continue;
    Value* row = out + (static_cast<int64_t>(rows[half]) * p.num_heads + head) * p.head_dim;
#pragma unroll
    for (int d = 0; d < kDim / 8; ++d) {
      const int column = element_column(d, 0);
      const auto x = simt::from_float<Value>(acc[d][2 * half] * factor[half]);
      const auto y = simt::from_float<Value>(acc[d][2 * half + 1] * factor[half]);
      if (p.head_dim % 2 == 0) {
        if (column < p.head_dim) *reinterpret_cast<ValuePair<Value>*>(row + column) = {x, y};
      } else {
        if (column < p.head_dim) row[column] = x;
        if (column + 1 < p.head_dim) row[column + 1] = y;
      }
    }
  }
}

}  // namespace mfgan::gpu
