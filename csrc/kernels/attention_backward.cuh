// Gradients of packed attention, in two passes that each write their own rows once: deterministic,
// no atomics. The first walks over queries (grad_q, delta, the bias), the second over keys.
#pragma once

#include "kernels/attention_bias.cuh"
#include "kernels/attention_forward.cuh"

namespace mfgan::gpu {

// Rows, their gradients, and two stages of a pair of column tiles.
template <typename Arithmetic, int kDim, int kWarps, int kColumns>
constexpr size_t attention_backward_tile_bytes() {
  return sizeof(typename Arithmetic::Value) * (2 * kWarps * kWarpRows + 2 * 2 * kColumns) *
         kRowStride<Arithmetic, kDim>;
}

template <typename Arithmetic, int kDim, int kWarps, int kColumns>
constexpr size_t attention_grad_query_shared_bytes(bool with_bias) {
  return attention_backward_tile_bytes<Arithmetic, kDim, kWarps, kColumns>() +
         (with_bias ? sizeof(float) * kDiagonalTile<kWarps * kWarpRows, kColumns> : 0);
}

template <typename Arithmetic, int kDim, int kWarps, int kColumns>
constexpr size_t attention_grad_key_shared_bytes() {
  return attention_backward_tile_bytes<Arithmetic, kDim, kWarps, kColumns>() +
         2 * kColumns * (sizeof(RowKey) + 2 * sizeof(float));
}

// A weight of the softmax and the gradient of its logit, from the logit itself (in units of log 2).
struct WeightGrad {
  float weight;  // after dropout
  float grad_logit;
};

__device__ __forceinline__ WeightGrad weight_grad(bool seen, float logit, float lse,
                                                  float grad_weight, float delta, bool kept,
                                                  float keep_scale) {
  const float weight = seen ? simt::exp2_of(logit - lse) : 0.0f;
  const float factor = kept ? keep_scale : 0.0f;
  return {weight * factor, weight * (grad_weight * factor - delta)};
}

// What one lane of four adds to the product of two rows.
template <typename Arithmetic>
__device__ __forceinline__ float quad_product(const typename Arithmetic::Value* a,
                                              const typename Arithmetic::Value* b,
                                              const AttentionParams& p) {
  using Value = typename Arithmetic::Value;
  float sum = 0.0f;
  if (p.load_bytes == 16) {
    struct alignas(16) Piece {
      Value values[kWide<Arithmetic>];
    };
    for (int d = lane_index() % 4 * kWide<Arithmetic>; d < p.head_dim; d += 4 * kWide<Arithmetic>) {
      const Piece x = *reinterpret_cast<const Piece*>(a + d);
      const Piece y = *reinterpret_cast<const Piece*>(b + d);
#pragma unroll
      for (int i = 0; i < kWide<Arithmetic>; ++i) {
        sum += simt::to_float(x.values[i]) * simt::to_float(y.values[i]);
      }
    }
  } else {
    for (int d = lane_index() % 4; d < p.head_dim; d += 4) {
      sum += simt::to_float(a[d]) * simt::to_float(b[d]);
    }
  }
  return sum;
}

// Grid: (blocks of rows, heads).
template <typename Arithmetic, int kDim, int kWarps, int kColumns>
__global__ void __launch_bounds__(kWarps * 32, blocks_of(kWarps, kDim <= 64 ? 3 : 2))
    attention_grad_query(AttentionGradParams g) {
  using Value = typename Arithmetic::Value;
  constexpr int kRows = kWarps * kWarpRows, kStride = kRowStride<Arithmetic, kDim>;
  constexpr int kTiles = kColumns / 8;
  const AttentionParams& p = g.forward;
  SIMT_SHARED(Value, row_tile);
  Value* grad_tile = row_tile + kRows * kStride;
  Value* key_tiles = grad_tile + kRows * kStride;
  float* grad_logits = reinterpret_cast<float*>(key_tiles + 4 * kColumns * kStride);

  const int head = blockIdx.y, warp = threadIdx.x / 32;
  const int first_row = static_cast<int>(blockIdx.x) * kRows;
  const int64_t head_offset = static_cast<int64_t>(head) * p.head_dim;
  const int64_t grad_stride = static_cast<int64_t>(p.num_heads) * p.head_dim;
  const Value* q = static_cast<const Value*>(p.q) + head_offset;
  const Value* k = static_cast<const Value*>(p.k) + head_offset;
  const Value* v = static_cast<const Value*>(p.v) + head_offset;
  const Value* grad_out = static_cast<const Value*>(g.grad_out) + head_offset;
  const Value* out = static_cast<const Value*>(p.out) + head_offset;
  const int num_tokens = static_cast<int>(p.total_tokens);
  load_tile<Arithmetic, kDim, kRows>(row_tile, q, p.q_stride, first_row, num_tokens, p);
  load_tile<Arithmetic, kDim, kRows>(grad_tile, grad_out, grad_stride, first_row, num_tokens, p);

  const WarpView view = view_of_warp<Rows::queries, kWarps>(p, first_row);
  const auto fetch = [&](int key, int stage) {
    Value* tile = key_tiles + stage * 2 * kColumns * kStride;
    load_tile<Arithmetic, kDim, kColumns>(tile, k, p.k_stride, key, view.block.high, p);
    load_tile<Arithmetic, kDim, kColumns>(tile + kColumns * kStride, v, p.v_stride, key,
                                          view.block.high, p);
    simt::cp_async_commit();
  };
  fetch(view.block.low, 0);

  float lse[2], delta[2];
  RowKey row_keys[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t row = view.rows[half], at = head * p.total_tokens + row;
    const bool valid = row < p.total_tokens;
    lse[half] = valid ? p.lse[at] * kLog2E : 0.0f;
    delta[half] = quad_sum(
        valid ? quad_product<Arithmetic>(grad_out + row * grad_stride, out + row * grad_stride, p)
              : 0.0f);
    if (valid && lane_index() % 4 == 0) g.delta[at] = delta[half];
    if (p.rng) row_keys[half] = attention_row_key(p, view.rows[half], head);
  }
  const float* bias = p.distance_bias ? p.distance_bias + head * p.num_distances : nullptr;
  float* bias_part = nullptr;
  if (bias) {
    bias_part =
        g.bias_parts + (static_cast<int64_t>(blockIdx.x) * p.num_heads + head) * p.num_distances;
    for (int bin = threadIdx.x; bin < p.num_distances; bin += blockDim.x) bias_part[bin] = 0.0f;
  }
  const float scale = p.scale * kLog2E;
  RowOperand<Arithmetic, kDim, true> queries, grads;
  float grad_q[kDim / 8][4] = {}, far = 0.0f;

  // One tile of keys, then values; `kWhole` where every row of the warp sees all of it.
  const auto descend = [&](auto whole, const Value* keys, int key, unsigned active) {
    constexpr bool kWhole = decltype(whole)::value;
    float logits[kTiles][4], grad_weights[kTiles][4];
    multiply_tile<kWhole, kColumns>(logits, queries, keys, active);
    multiply_tile<kWhole, kColumns>(grad_weights, grads, keys + kColumns * kStride, active);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      if (!is_active(active, n)) continue;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int column = key + element_column(n, e), half = e / 2;
        float logit = logits[n][e] * scale;
        int distance = 0;
        if (bias) {
          distance = distance_index(p, view.rows[half], column);
          logit += bias[distance] * kLog2E;
        }
        bool kept = true;
        if (p.rng) {
          kept = keeps(row_keys[half], static_cast<uint32_t>(column - view.sessions[half].low),
                       p.drop_threshold);
        }
        const bool seen = kWhole || view.seen[half].holds(column);
        const float grad =
            weight_grad(seen, logit, lse[half], grad_weights[n][e], delta[half], kept, p.keep_scale)
                .grad_logit;
        logits[n][e] = grad * p.scale;
        if (bias) {
          const int at = warp * kWarpRows + element_row(e);
          grad_logits[at * (kColumns + 1) + element_column(n, e)] = grad;
          if (distance == p.num_distances - 1) far += grad;
        }
      }
    }
    accumulate_tile<kWhole, kColumns>(Arithmetic{}, grad_q, logits, keys, active);
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
    if (key == view.block.low) {
      queries.load(row_tile + warp * kWarpRows * kStride);
      grads.load(grad_tile + warp * kWarpRows * kStride);
    }
    const Value* keys = key_tiles + stage * 2 * kColumns * kStride;
    const unsigned active = view.active_chunks<kColumns>(key);
    if (bias) {
      constexpr int kWarpTile = kDiagonalTile<kWarpRows, kColumns>;
      float* mine = grad_logits + warp * kWarpTile;
      for (int i = lane_index(); i < kWarpTile; i += 32) mine[i] = 0.0f;
      __syncwarp();  // cleared before the active chunks are written
    }
    if (view.needs_no_mask(key, kColumns)) {
      descend(std::true_type(), keys, key, kAllChunks);
    } else if (active) {
      descend(std::false_type(), keys, key, active);
    }
    __syncthreads();  // the next fetch may overwrite this stage; the diagonals are all there
    if (bias) {
      add_diagonals<kRows, kColumns>(p, bias_part, grad_logits, first_row, key);
      __syncthreads();  // the next tile writes its diagonals
    }
  }
  if (bias) store_far<kWarps>(p, bias_part, far, grad_logits);
  const float one[2] = {1.0f, 1.0f};
  store_rows<Value, kDim>(static_cast<Value*>(g.grad_q), grad_q, view.rows, head, one, p);
}

// Which row operands stay in registers beside the sums of two gradients.
template <int kDim>
constexpr bool kHoldsKeys = kDim <= 64;
template <int kDim>
constexpr bool kHoldsValues = kDim <= 32;

// Grid: (blocks of keys, heads). A warp owns 16 keys; columns are queries.
template <typename Arithmetic, int kDim, int kWarps, int kColumns>
__global__ void __launch_bounds__(kWarps * 32, blocks_of(kWarps, kDim <= 64 ? 3 : 2))
    attention_grad_key(AttentionGradParams g) {
  using Value = typename Arithmetic::Value;
  constexpr int kRows = kWarps * kWarpRows, kStride = kRowStride<Arithmetic, kDim>;
  constexpr int kTiles = kColumns / 8;
  const AttentionParams& p = g.forward;
  SIMT_SHARED(Value, key_tile);
  Value* value_tile = key_tile + kRows * kStride;
  Value* query_tiles = value_tile + kRows * kStride;
  // Of each stage's queries: their row keys, log-sum-exps and deltas.
  auto* row_keys = reinterpret_cast<RowKey*>(query_tiles + 4 * kColumns * kStride);
  auto* all_lse = reinterpret_cast<float*>(row_keys + 2 * kColumns);
  float* all_delta = all_lse + 2 * kColumns;

  const int head = blockIdx.y, warp = threadIdx.x / 32;
  const int first_row = static_cast<int>(blockIdx.x) * kRows;
  const int64_t head_offset = static_cast<int64_t>(head) * p.head_dim;
  const int64_t grad_stride = static_cast<int64_t>(p.num_heads) * p.head_dim;
  const Value* q = static_cast<const Value*>(p.q) + head_offset;
  const Value* k = static_cast<const Value*>(p.k) + head_offset;
  const Value* v = static_cast<const Value*>(p.v) + head_offset;
  const Value* grad_out = static_cast<const Value*>(g.grad_out) + head_offset;
  const int num_tokens = static_cast<int>(p.total_tokens);
  load_tile<Arithmetic, kDim, kRows>(key_tile, k, p.k_stride, first_row, num_tokens, p);
  load_tile<Arithmetic, kDim, kRows>(value_tile, v, p.v_stride, first_row, num_tokens, p);

  const WarpView view = view_of_warp<Rows::keys, kWarps>(p, first_row);
  const auto fetch = [&](int query, int stage) {
    Value* tile = query_tiles + stage * 2 * kColumns * kStride;
    load_tile<Arithmetic, kDim, kColumns>(tile, q, p.q_stride, query, view.block.high, p);
    load_tile<Arithmetic, kDim, kColumns>(tile + kColumns * kStride, grad_out, grad_stride, query,
                                          view.block.high, p);
    for (int i = threadIdx.x; i < kColumns; i += blockDim.x) {
      const bool valid = query + i < view.block.high;
      const int64_t from = valid ? head * p.total_tokens + query + i : 0;
      const int to = stage * kColumns + i;
      simt::cp_async<4>(all_lse + to, p.lse + from, valid);
      simt::cp_async<4>(all_delta + to, g.delta + from, valid);
      if (p.rng) row_keys[to] = attention_row_key(p, query + i, head);
    }
    simt::cp_async_commit();
  };
  fetch(view.block.low, 0);

  const float* bias = p.distance_bias ? p.distance_bias + head * p.num_distances : nullptr;
  const float scale = p.scale * kLog2E;
  RowOperand<Arithmetic, kDim, kHoldsKeys<kDim>> keys;
  RowOperand<Arithmetic, kDim, kHoldsValues<kDim>> values;
  float grad_k[kDim / 8][4] = {}, grad_v[kDim / 8][4] = {};

  // One stage of queries, then their gradients; `kWhole` where they all see every row of the warp.
  const auto descend = [&](auto whole, int stage, int query, unsigned active) {
    constexpr bool kWhole = decltype(whole)::value;
    const Value* queries = query_tiles + stage * 2 * kColumns * kStride;
    const Value* grads = queries + kColumns * kStride;
    float logits[kTiles][4], weights[kTiles][4];
    multiply_tile<kWhole, kColumns>(logits, keys, queries, active);
    multiply_tile<kWhole, kColumns>(weights, values, grads, active);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      if (!is_active(active, n)) continue;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int column = query + element_column(n, e), half = e / 2;
        const int at = stage * kColumns + element_column(n, e);
        float logit = logits[n][e] * scale;
        if (bias) logit += bias[distance_index(p, view.rows[half], column)] * kLog2E;
        bool kept = true;
        if (p.rng) {
          kept =
              keeps(row_keys[at], static_cast<uint32_t>(view.rows[half] - view.sessions[half].low),
                    p.drop_threshold);
        }
        const bool seen = kWhole || view.seen[half].holds(column);
        const WeightGrad result = weight_grad(seen, logit, all_lse[at] * kLog2E, weights[n][e],
                                              all_delta[at], kept, p.keep_scale);
        weights[n][e] = result.weight;
        logits[n][e] = result.grad_logit * p.scale;
      }
    }
    accumulate_tile<kWhole, kColumns>(Arithmetic{}, grad_v, weights, grads, active);
    accumulate_tile<kWhole, kColumns>(Arithmetic{}, grad_k, logits, queries, active);
  };

  int stage = 0;
  for (int query = view.block.low; query < view.block.high; query += kColumns, stage ^= 1) {
    if (query + kColumns < view.block.high) {
      fetch(query + kColumns, stage ^ 1);
      simt::cp_async_wait<1>();
    } else {
      simt::cp_async_wait<0>();
    }
    __syncthreads();  // this stage, its statistics and its row keys have arrived
    if (query == view.block.low) {
      keys.load(key_tile + warp * kWarpRows * kStride);
      values.load(value_tile + warp * kWarpRows * kStride);
    }
    const unsigned active = view.active_chunks<kColumns>(query);
    if (view.needs_no_mask(query, kColumns)) {
      descend(std::true_type(), stage, query, kAllChunks);
    } else if (active) {
      descend(std::false_type(), stage, query, active);
    }
    __syncthreads();  // the next fetch and the next statistics may overwrite this stage
  }
  const float one[2] = {1.0f, 1.0f};
  store_rows<Value, kDim>(static_cast<Value*>(g.grad_k), grad_k, view.rows, head, one, p);
  store_rows<Value, kDim>(static_cast<Value*>(g.grad_v), grad_v, view.rows, head, one, p);
}

}  // namespace mfgan::gpu
