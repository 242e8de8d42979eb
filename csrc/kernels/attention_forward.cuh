// softmax(scale q k^T + bias) v over packed sessions, with the softmax kept online: no row of
// scores ever leaves the registers.
#pragma once

#include "kernels/attention_tile.cuh"

namespace mfgan::gpu {

template <typename Arithmetic, int kDim, int kWarps, int kColumns>
constexpr size_t attention_forward_shared_bytes() {
  constexpr int kTiles = kWarps * kWarpRows + 2 * 2 * kColumns;
  return sizeof(typename Arithmetic::Value) * kTiles * kRowStride<Arithmetic, kDim>;
}

// Grid: (blocks of rows, heads). Each warp owns 16 query rows; the block walks over the keys that
// any of its rows may see, in tiles of kColumns that are fetched one ahead.
template <typename Arithmetic, int kDim, int kWarps, int kColumns>
__global__ void __launch_bounds__(kWarps * 32) attention_forward(AttentionParams p) {
  using Value = typename Arithmetic::Value;
  constexpr int kRows = kWarps * kWarpRows, kStride = kRowStride<Arithmetic, kDim>;
  constexpr int kTiles = kColumns / 8;
  SIMT_SHARED(Value, row_tile);
  Value* key_tiles = row_tile + kRows * kStride;  // two stages of keys, then values

  const int head = blockIdx.y, warp = threadIdx.x / 32;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t last_row = min(first_row + kRows, p.total_tokens) - 1;
  const int64_t key_begin = session_of(p, first_row).begin;
  const int64_t key_end = p.causal ? last_row + 1 : session_of(p, last_row).end;
  const Value* q = static_cast<const Value*>(p.q) + head * p.head_dim;
  const Value* k = static_cast<const Value*>(p.k) + head * p.head_dim;
  const Value* v = static_cast<const Value*>(p.v) + head * p.head_dim;

  const auto fetch = [&](int64_t key, int stage) {
    Value* tile = key_tiles + stage * 2 * kColumns * kStride;
    load_tile<Arithmetic, kDim, kColumns>(tile, k, p.k_stride, key, p);
    load_tile<Arithmetic, kDim, kColumns>(tile + kColumns * kStride, v, p.v_stride, key, p);
    simt::cp_async_commit();
  };
  load_tile<Arithmetic, kDim, kRows>(row_tile, q, p.q_stride, first_row, p);
  fetch(key_begin, 0);

  const int64_t warp_row = first_row + warp * kWarpRows;
  const int64_t rows[2] = {warp_row + element_row(0), warp_row + element_row(2)};
  const Bounds sessions[2] = {session_of(p, rows[0]), session_of(p, rows[1])};
  RowKey row_keys[2];
  if (p.rng) {
    row_keys[0] = attention_row_key(p, rows[0], head);
    row_keys[1] = attention_row_key(p, rows[1], head);
  }
  const float* bias = p.distance_bias ? p.distance_bias + head * p.num_distances : nullptr;
  RowOperand<Arithmetic, kDim> queries;
  OnlineSoftmax<kDim> softmax;

  int stage = 0;
  for (int64_t key = key_begin; key < key_end; key += kColumns, stage ^= 1) {
    if (key + kColumns < key_end) {
      fetch(key + kColumns, stage ^ 1);
      simt::cp_async_wait<1>();
    } else {
      simt::cp_async_wait<0>();
    }
    __syncthreads();  // every thread's part of this stage has arrived
    if (key == key_begin) queries.load(row_tile + warp * kWarpRows * kStride);
    const Value* keys = key_tiles + stage * 2 * kColumns * kStride;
    float logits[kTiles][4] = {};
    add_nt(logits, queries, keys);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int64_t column = key + element_column(n, e), row = rows[e / 2];
        float logit = logits[n][e] * p.scale;
        const bool seen = sees(p.causal, row, column, sessions[e / 2]);
        if (bias && seen) logit += bias[distance_index(p, row, column)];
        logits[n][e] = seen ? logit * kLog2E : -INFINITY;
      }
    }
    softmax.step(logits);
    if (p.rng) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const auto column =
              static_cast<uint32_t>(key + element_column(n, e) - sessions[e / 2].begin);
          if (!keeps(row_keys[e / 2], column, p.drop_threshold)) logits[n][e] = 0.0f;
        }
      }
    }
    add_nn(Arithmetic{}, softmax.acc, logits, keys + kColumns * kStride);
    __syncthreads();  // the next fetch may overwrite this stage
  }

  float factor[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = quad_sum(softmax.total[half]);
    factor[half] = total > 0.0f ? p.keep_scale / total : 0.0f;
    if (lane_index() % 4 == 0 && rows[half] < p.total_tokens) {
      p.lse[head * p.total_tokens + rows[half]] = softmax.peak[half] * kLn2 + __logf(total);
    }
  }
  store_rows<Value, kDim>(static_cast<Value*>(p.out), softmax.acc, warp_row, head, factor, p);
}

}  // namespace mfgan::gpu
