// softmax(scale q k^T + bias) v over packed sessions, with the softmax kept online: no row of
// scores ever leaves the registers.
#pragma once

#include <type_traits>

#include "kernels/attention_tile.cuh"

namespace mfgan::gpu {

template <typename Arithmetic, int kDim, int kWarps, int kColumns>
constexpr size_t attention_forward_shared_bytes() {
  constexpr int kTiles = kWarps * kWarpRows + 2 * 2 * kColumns;
  return sizeof(typename Arithmetic::Value) * kTiles * kRowStride<Arithmetic, kDim>;
}

// logits (16 x kColumns) = rows . columns^T, in the active chunks alone.
template <bool kWhole, int kColumns, typename Arithmetic, int kDim, bool kHeld>
__device__ __forceinline__ void multiply_tile(float (&logits)[kColumns / 8][4],
                                              const RowOperand<Arithmetic, kDim, kHeld>& rows,
                                              const typename Arithmetic::Value* columns,
                                              unsigned active) {
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) logits[n][e] = 0.0f;
  }
  if constexpr (kWhole) {
    add_nt(logits, rows, columns);
  } else {
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 2) {
      if (!is_active(active, n)) continue;
      add_nt_tiles<2>(logits + n, rows, columns + n * 8 * kRowStride<Arithmetic, kDim>);
    }
  }
}

// acc (16 x kDim) += weights (16 x kColumns) . columns, over the active chunks.
template <bool kWhole, int kColumns, typename Arithmetic, int kDimTiles>
__device__ __forceinline__ void accumulate_tile(Arithmetic arithmetic, float (&acc)[kDimTiles][4],
                                                const float (&weights)[kColumns / 8][4],
                                                const typename Arithmetic::Value* columns,
                                                unsigned active) {
  if constexpr (kWhole) {
    add_nn(arithmetic, acc, weights, columns);
  } else {
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 2) {
      if (!is_active(active, n)) continue;
      add_nn_tiles<2>(arithmetic, acc, weights + n,
                      columns + n * 8 * kRowStride<Arithmetic, kDimTiles * 8>);
    }
  }
}

// Grid: (blocks of rows, heads). Each warp owns 16 query rows; the block walks over the keys that
// any of its rows may see, in tiles of kColumns that are fetched one ahead.
template <typename Arithmetic, int kDim, int kWarps, int kColumns>
__global__ void __launch_bounds__(kWarps * 32, blocks_of(kWarps, kDim + kColumns < 128 ? 4 : 3))
    attention_forward(AttentionParams p) {
  using Value = typename Arithmetic::Value;
  constexpr int kRows = kWarps * kWarpRows, kStride = kRowStride<Arithmetic, kDim>;
  constexpr int kTiles = kColumns / 8;
  SIMT_SHARED(Value, row_tile);
  Value* key_tiles = row_tile + kRows * kStride;  // two stages of keys, then values

  const int head = blockIdx.y, warp = threadIdx.x / 32;
  const int first_row = static_cast<int>(blockIdx.x) * kRows;
  const int64_t head_offset = static_cast<int64_t>(head) * p.head_dim;
  const Value* q = static_cast<const Value*>(p.q) + head_offset;
  const Value* k = static_cast<const Value*>(p.k) + head_offset;
  const Value* v = static_cast<const Value*>(p.v) + head_offset;
  load_tile<Arithmetic, kDim, kRows>(row_tile, q, p.q_stride, first_row,
                                     static_cast<int>(p.total_tokens), p);
  const WarpView view = view_of_warp<Rows::queries, kWarps>(p, first_row);
  const auto fetch = [&](int key, int stage) {
    Value* tile = key_tiles + stage * 2 * kColumns * kStride;
    load_tile<Arithmetic, kDim, kColumns>(tile, k, p.k_stride, key, view.block.high, p);
    load_tile<Arithmetic, kDim, kColumns>(tile + kColumns * kStride, v, p.v_stride, key,
                                          view.block.high, p);
    simt::cp_async_commit();
  };
  fetch(view.block.low, 0);

  RowKey row_keys[2];
  if (p.rng) {
    row_keys[0] = attention_row_key(p, view.rows[0], head);
    row_keys[1] = attention_row_key(p, view.rows[1], head);
  }
  const float* bias = p.distance_bias ? p.distance_bias + head * p.num_distances : nullptr;
  const float scale = p.scale * kLog2E;
  RowOperand<Arithmetic, kDim, true> queries;
  OnlineSoftmax<kDim> softmax;

  // One tile of keys, then values; `kWhole` where every row of the warp sees all of it.
  const auto attend = [&](auto whole, const Value* keys, int key, unsigned active) {
    constexpr bool kWhole = decltype(whole)::value;
    float logits[kTiles][4];
    multiply_tile<kWhole, kColumns>(logits, queries, keys, active);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      if (!is_active(active, n)) continue;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int column = key + element_column(n, e);
        float logit = logits[n][e] * scale;
        if (bias) logit += bias[distance_index(p, view.rows[e / 2], column)] * kLog2E;
        logits[n][e] = kWhole || view.seen[e / 2].holds(column) ? logit : -INFINITY;
      }
    }
    softmax.step(logits, active);
    if (p.rng) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        if (!is_active(active, n)) continue;
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const auto column =
              static_cast<uint32_t>(key + element_column(n, e) - view.sessions[e / 2].low);
          if (!keeps(row_keys[e / 2], column, p.drop_threshold)) logits[n][e] = 0.0f;
        }
      }
    }
    accumulate_tile<kWhole, kColumns>(Arithmetic{}, softmax.acc, logits, keys + kColumns * kStride,
                                      active);
  };

  int stage = 0;
  for (int key = view.block.low; key < view.block.high; key += kColumns, stage ^= 1) {
    if (key + kColumns < view.block.high) {
      fetch(key + kColumns, stage ^ 1);
      simt::cp_async_wait<1>();
    } else {
      simt::cp_async_wait<0>();
    }
    __syncthreads();  // every thread's part of this stage has arrived
    if (key == view.block.low) queries.load(row_tile + warp * kWarpRows * kStride);
    const Value* keys = key_tiles + stage * 2 * kColumns * kStride;
    const unsigned active = view.active_chunks<kColumns>(key);
    if (view.needs_no_mask(key, kColumns)) {
      attend(std::true_type(), keys, key, kAllChunks);
    } else if (active) {
      attend(std::false_type(), keys, key, active);
    }
    __syncthreads();  // the next fetch may overwrite this stage
  }

  float factor[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = quad_sum(softmax.total[half]);
    factor[half] = total > 0.0f ? p.keep_scale / total : 0.0f;
    if (lane_index() % 4 == 0 && view.rows[half] < p.total_tokens) {
      p.lse[head * p.total_tokens + view.rows[half]] = softmax.peak[half] * kLn2 + __logf(total);
    }
  }
  store_rows<Value, kDim>(static_cast<Value*>(p.out), softmax.acc, view.rows, head, factor, p);
}

}  // namespace mfgan::gpu
