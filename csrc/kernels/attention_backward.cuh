// Gradients of packed attention, in two passes that each write their own rows once: deterministic,
// no atomics. The first walks over queries (grad_q, delta, the bias), the second over keys.
#pragma once

#include "kernels/attention_forward.cuh"

namespace mfgan::gpu {

// Rows, their gradients, and two stages of a pair of column tiles.
template <typename Arithmetic, int kDim, int kWarps, int kColumns>
constexpr size_t attention_backward_tile_values() {
  return (2 * kWarps * kWarpRows + 2 * 2 * kColumns) * kRowStride<Arithmetic, kDim>;
}

template <typename Arithmetic, int kDim, int kWarps, int kColumns>
constexpr size_t attention_grad_query_shared_bytes(bool with_bias) {
  constexpr size_t kTileBytes =
      sizeof(typename Arithmetic::Value) *
      attention_backward_tile_values<Arithmetic, kDim, kWarps, kColumns>();
  // The bias sums over diagonals of a float32 tile, one more value a row against bank conflicts.
  return kTileBytes + (with_bias ? sizeof(float) * kWarps * kWarpRows * (kColumns + 1) : 0);
}

template <typename Arithmetic, int kDim, int kWarps, int kColumns>
constexpr size_t attention_grad_key_shared_bytes() {
  return sizeof(typename Arithmetic::Value) *
             attention_backward_tile_values<Arithmetic, kDim, kWarps, kColumns>() +
         (sizeof(RowKey) + 2 * sizeof(float)) * kColumns;
}

// A weight of the softmax and the gradient of its logit, from the logit itself.
struct WeightGrad {
  float weight;  // after dropout
  float grad_logit;
};

__device__ __forceinline__ WeightGrad weight_grad(float logit, float lse, float grad_weight,
                                                  float delta, bool kept, float keep_scale) {
  const float weight = exp2f((logit - lse) * kLog2E);
  const float factor = kept ? keep_scale : 0.0f;
  return {weight * factor, weight * (grad_weight * factor - delta)};
}

__device__ __forceinline__ float sum_between(const float* row, int64_t first, int64_t last,
                                             int num_columns) {
  float sum = 0.0f;
  last = min(last, static_cast<int64_t>(num_columns - 1));
  for (int64_t column = max(first, int64_t{0}); column <= last; ++column) sum += row[column];
  return sum;
}

// Adds a tile's gradients of logits to the bias gradient of this block: a distance, so one diagonal
// (the last distance: every farther one), is one thread's, which sums it in order.
template <int kRows, int kColumns>
__device__ __forceinline__ void add_diagonals(const AttentionParams& p, float* bias_part,
                                              const float* grad_logits, int64_t first_row,
                                              int64_t first_key) {
  const int last = p.num_distances - 1;
  for (int distance = threadIdx.x; distance <= last; distance += blockDim.x) {
    float sum = 0.0f;
    for (int i = 0; i < kRows; ++i) {
      const float* row = grad_logits + i * (kColumns + 1);
      const int64_t query = first_row + i - first_key;  // the column at distance zero
      const int64_t nearest = query - distance;
      sum += sum_between(row, distance == last ? 0 : nearest, nearest, kColumns);
      if (p.causal) continue;
      const int64_t next = query + max(distance, 1);
      sum += sum_between(row, next, distance == last ? kColumns : query + distance, kColumns);
    }
    bias_part[distance] += sum;
  }
}

// Grid: (blocks of rows, heads).
template <typename Arithmetic, int kDim, int kWarps, int kColumns>
__global__ void __launch_bounds__(kWarps * 32) attention_grad_query(AttentionGradParams g) {
  using Value = typename Arithmetic::Value;
  constexpr int kRows = kWarps * kWarpRows, kStride = kRowStride<Arithmetic, kDim>;
  constexpr int kTiles = kColumns / 8;
  const AttentionParams& p = g.forward;
  SIMT_SHARED(Value, row_tile);
  Value* grad_tile = row_tile + kRows * kStride;
  Value* key_tiles = grad_tile + kRows * kStride;
  float* grad_logits = reinterpret_cast<float*>(key_tiles + 4 * kColumns * kStride);

  const int head = blockIdx.y, warp = threadIdx.x / 32;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t last_row = min(first_row + kRows, p.total_tokens) - 1;
  const int64_t key_begin = session_of(p, first_row).begin;
  const int64_t key_end = p.causal ? last_row + 1 : session_of(p, last_row).end;
  const int64_t head_offset = static_cast<int64_t>(head) * p.head_dim;
  const int64_t grad_stride = static_cast<int64_t>(p.num_heads) * p.head_dim;
  const Value* q = static_cast<const Value*>(p.q) + head_offset;
  const Value* k = static_cast<const Value*>(p.k) + head_offset;
  const Value* v = static_cast<const Value*>(p.v) + head_offset;
  const Value* grad_out = static_cast<const Value*>(g.grad_out) + head_offset;
  const Value* out = static_cast<const Value*>(p.out) + head_offset;

  const auto fetch = [&](int64_t key, int stage) {
    Value* tile = key_tiles + stage * 2 * kColumns * kStride;
    load_tile<Arithmetic, kDim, kColumns>(tile, k, p.k_stride, key, p);
    load_tile<Arithmetic, kDim, kColumns>(tile + kColumns * kStride, v, p.v_stride, key, p);
    simt::cp_async_commit();
  };
  load_tile<Arithmetic, kDim, kRows>(row_tile, q, p.q_stride, first_row, p);
  load_tile<Arithmetic, kDim, kRows>(grad_tile, grad_out, grad_stride, first_row, p);
  fetch(key_begin, 0);

  const int64_t warp_row = first_row + warp * kWarpRows;
  const int64_t rows[2] = {warp_row + element_row(0), warp_row + element_row(2)};
  const Bounds sessions[2] = {session_of(p, rows[0]), session_of(p, rows[1])};
  float lse[2], delta[2];
  RowKey row_keys[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const bool valid = rows[half] < p.total_tokens;
    lse[half] = valid ? p.lse[head * p.total_tokens + rows[half]] : 0.0f;
    float sum = 0.0f;
    for (int d = lane_index() % 4; valid && d < p.head_dim; d += 4) {
      const int64_t at = rows[half] * grad_stride + d;
      sum += simt::to_float(grad_out[at]) * simt::to_float(out[at]);
    }
    delta[half] = quad_sum(sum);
    if (valid && lane_index() % 4 == 0) {
      g.delta[head * p.total_tokens + rows[half]] = delta[half];
    }
    if (p.rng) row_keys[half] = attention_row_key(p, rows[half], head);
  }
  const float* bias = p.distance_bias ? p.distance_bias + head * p.num_distances : nullptr;
  float* bias_part = nullptr;
  if (bias) {
    bias_part =
        g.bias_parts + (static_cast<int64_t>(blockIdx.x) * p.num_heads + head) * p.num_distances;
    for (int bin = threadIdx.x; bin < p.num_distances; bin += blockDim.x) bias_part[bin] = 0.0f;
  }
  RowOperand<Arithmetic, kDim> queries, grads;
  float grad_q[kDim / 8][4] = {};

  int stage = 0;
  for (int64_t key = key_begin; key < key_end; key += kColumns, stage ^= 1) {
    if (key + kColumns < key_end) {
      fetch(key + kColumns, stage ^ 1);
      simt::cp_async_wait<1>();
    } else {
      simt::cp_async_wait<0>();
    }
    __syncthreads();  // every thread's part of this stage has arrived
    if (key == key_begin) {
      queries.load(row_tile + warp * kWarpRows * kStride);
      grads.load(grad_tile + warp * kWarpRows * kStride);
    }
    const Value* keys = key_tiles + stage * 2 * kColumns * kStride;
    float logits[kTiles][4] = {}, grad_weights[kTiles][4] = {};
    add_nt(logits, queries, keys);
    add_nt(grad_weights, grads, keys + kColumns * kStride);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int64_t column = key + element_column(n, e), row = rows[e / 2];
        float grad = 0.0f;
        if (sees(p.causal, row, column, sessions[e / 2])) {
          float logit = logits[n][e] * p.scale;
          if (bias) logit += bias[distance_index(p, row, column)];
          bool kept = true;
          if (p.rng) {
            kept = keeps(row_keys[e / 2], static_cast<uint32_t>(column - sessions[e / 2].begin),
                         p.drop_threshold);
          }
          grad =
              weight_grad(logit, lse[e / 2], grad_weights[n][e], delta[e / 2], kept, p.keep_scale)
                  .grad_logit;
        }
        logits[n][e] = grad * p.scale;
        if (bias) {
          const int at = warp * kWarpRows + element_row(e);
          grad_logits[at * (kColumns + 1) + element_column(n, e)] = grad;
        }
      }
    }
    add_nn(Arithmetic{}, grad_q, logits, keys);
    __syncthreads();  // the next fetch may overwrite this stage; the diagonals are all there
    if (bias) {
      add_diagonals<kRows, kColumns>(p, bias_part, grad_logits, first_row, key);
      __syncthreads();  // the next tile writes its diagonals
    }
  }
  const float one[2] = {1.0f, 1.0f};
  store_rows<Value, kDim>(static_cast<Value*>(g.grad_q), grad_q, warp_row, head, one, p);
}

// Grid: (blocks of keys, heads). A warp owns 16 keys; columns are queries.
template <typename Arithmetic, int kDim, int kWarps, int kColumns>
__global__ void __launch_bounds__(kWarps * 32) attention_grad_key(AttentionGradParams g) {
  using Value = typename Arithmetic::Value;
  constexpr int kRows = kWarps * kWarpRows, kStride = kRowStride<Arithmetic, kDim>;
  constexpr int kTiles = kColumns / 8;
  const AttentionParams& p = g.forward;
  SIMT_SHARED(Value, key_tile);
  Value* value_tile = key_tile + kRows * kStride;
  Value* query_tiles = value_tile + kRows * kStride;
  auto* row_keys = reinterpret_cast<RowKey*>(query_tiles + 4 * kColumns * kStride);
  auto* lse = reinterpret_cast<float*>(row_keys + kColumns);
  float* delta = lse + kColumns;

  const int head = blockIdx.y, warp = threadIdx.x / 32;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t last_row = min(first_row + kRows, p.total_tokens) - 1;
  const int64_t query_begin = p.causal ? first_row : session_of(p, first_row).begin;
  const int64_t query_end = session_of(p, last_row).end;
  const int64_t head_offset = static_cast<int64_t>(head) * p.head_dim;
  const int64_t grad_stride = static_cast<int64_t>(p.num_heads) * p.head_dim;
  const Value* q = static_cast<const Value*>(p.q) + head_offset;
  const Value* k = static_cast<const Value*>(p.k) + head_offset;
  const Value* v = static_cast<const Value*>(p.v) + head_offset;
  const Value* grad_out = static_cast<const Value*>(g.grad_out) + head_offset;

  const auto fetch = [&](int64_t query, int stage) {
    Value* tile = query_tiles + stage * 2 * kColumns * kStride;
    load_tile<Arithmetic, kDim, kColumns>(tile, q, p.q_stride, query, p);
    load_tile<Arithmetic, kDim, kColumns>(tile + kColumns * kStride, grad_out, grad_stride, query,
                                          p);
    simt::cp_async_commit();
  };
  load_tile<Arithmetic, kDim, kRows>(key_tile, k, p.k_stride, first_row, p);
  load_tile<Arithmetic, kDim, kRows>(value_tile, v, p.v_stride, first_row, p);
  fetch(query_begin, 0);

  const int64_t warp_row = first_row + warp * kWarpRows;
  const int64_t rows[2] = {warp_row + element_row(0), warp_row + element_row(2)};
  const Bounds sessions[2] = {session_of(p, rows[0]), session_of(p, rows[1])};
  const float* bias = p.distance_bias ? p.distance_bias + head * p.num_distances : nullptr;
  RowOperand<Arithmetic, kDim> keys, values;
  float grad_k[kDim / 8][4] = {}, grad_v[kDim / 8][4] = {};

  int stage = 0;
  for (int64_t query = query_begin; query < query_end; query += kColumns, stage ^= 1) {
    for (int i = threadIdx.x; i < kColumns; i += blockDim.x) {
      const bool valid = query + i < p.total_tokens;
      const int64_t at = head * p.total_tokens + query + i;
      lse[i] = valid ? p.lse[at] : 0.0f;
      delta[i] = valid ? g.delta[at] : 0.0f;
      if (p.rng) row_keys[i] = attention_row_key(p, query + i, head);
    }
    if (query + kColumns < query_end) {
      fetch(query + kColumns, stage ^ 1);
      simt::cp_async_wait<1>();
    } else {
      simt::cp_async_wait<0>();
    }
    __syncthreads();  // this stage, its statistics and its row keys have arrived
    if (query == query_begin) {
      keys.load(key_tile + warp * kWarpRows * kStride);
      values.load(value_tile + warp * kWarpRows * kStride);
    }
    const Value* queries = query_tiles + stage * 2 * kColumns * kStride;
    const Value* grads = queries + kColumns * kStride;
    float logits[kTiles][4] = {}, grad_weights[kTiles][4] = {};
    add_nt(logits, keys, queries);
    add_nt(grad_weights, values, grads);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int column = element_column(n, e);
        const int64_t key = rows[e / 2];
        WeightGrad result = {0.0f, 0.0f};
        if (sees(p.causal, query + column, key, sessions[e / 2])) {
          float logit = logits[n][e] * p.scale;
          if (bias) logit += bias[distance_index(p, query + column, key)];
          bool kept = true;
          if (p.rng) {
            kept = keeps(row_keys[column], static_cast<uint32_t>(key - sessions[e / 2].begin),
                         p.drop_threshold);
          }
          result = weight_grad(logit, lse[column], grad_weights[n][e], delta[column], kept,
                               p.keep_scale);
        }
        grad_weights[n][e] = result.weight;
        logits[n][e] = result.grad_logit * p.scale;
      }
    }
    add_nn(Arithmetic{}, grad_v, grad_weights, grads);
    add_nn(Arithmetic{}, grad_k, logits, queries);
    __syncthreads();  // the next fetch and the next statistics may overwrite this stage
  }
  const float one[2] = {1.0f, 1.0f};
  store_rows<Value, kDim>(static_cast<Value*>(g.grad_k), grad_k, warp_row, head, one, p);
  store_rows<Value, kDim>(static_cast<Value*>(g.grad_v), grad_v, warp_row, head, one, p);
}

}  // namespace mfgan::gpu
