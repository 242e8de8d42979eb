// The last step of factor_score's gradients: sums over a table row's entries, over blocks' parts
// and over parts of the positions, each in a fixed order.
#pragma once

#include "kernels/factor_score_grad_keys.cuh"

namespace mfgan::gpu {

constexpr int kSumThreads = 128;
constexpr int kSumGroups = kSumThreads / 32;

// Where the entries of each table row begin among the sorted ones. Grid: a thread a row and one.
static __global__ void score_row_bounds(ScoreGradParams g) {
  const ScoreParams& p = g.forward;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row > p.num_rows) return;
  g.candidate_bounds[row] = lower_bound(g.sorted_candidates, p.num_scores, row);
  g.history_bounds[row] = lower_bound(g.sorted_history, p.total_tokens, row);
}

// Adds up every kSumGroups-th entry of a table row, for one column.
struct TableSums {
  float query = 0.0f, residual = 0.0f, own_grad = 0.0f, key = 0.0f, value = 0.0f;

  template <typename Value>
  __device__ __forceinline__ void add_entries(const ScoreGradParams& g, int64_t row, int factor,
                                              int column, int group) {
    const ScoreParams& p = g.forward;
    const auto* grads = static_cast<const Value*>(g.grad_attended);
    const int head = column / p.head_dim;
    for (int64_t i = g.candidate_bounds[row] + group; i < g.candidate_bounds[row + 1];
         i += kSumGroups) {
      const int64_t score = factor * p.num_scores + g.candidate_order[i];
      query += g.grad_query[score * p.dim + column];
      residual += g.grad_hidden[score * p.dim + column];
      own_grad += g.own_grad[score * p.num_heads + head];
      value +=
          g.own_weight[score * p.num_heads + head] * simt::to_float(grads[score * p.dim + column]);
    }
    for (int64_t i = g.history_bounds[row] + group; i < g.history_bounds[row + 1];
         i += kSumGroups) {
      const int64_t token = factor * p.total_tokens + g.history_order[i];
      key += g.token_key[token * p.dim + column];
      value += g.token_value[token * p.dim + column];
    }
  }
  __device__ __forceinline__ void add(const TableSums& other) {
    query += other.query;
    residual += other.residual;
    own_grad += other.own_grad;
    key += other.key;
    value += other.value;
  }
};

// Grid: (table rows, factors). A warp takes every kSumGroups-th entry, a lane a column.
template <typename Value>
__global__ void __launch_bounds__(kSumThreads) score_table_grads(ScoreGradParams g) {
  const ScoreParams& p = g.forward;
  SIMT_SHARED(TableSums, sums);  // (kSumGroups, 32)
  const int64_t row = blockIdx.x;
  const int factor = blockIdx.y, group = threadIdx.x / 32, lane = lane_index();
  for (int first = 0; first < p.dim; first += 32) {
    const int column = first + lane;
    TableSums mine;
    if (column < p.dim) mine.add_entries<Value>(g, row, factor, column, group);
    sums[threadIdx.x] = mine;
    __syncthreads();  // every group's sums are there
    if (group == 0 && column < p.dim) {
      for (int i = 1; i < kSumGroups; ++i) mine.add(sums[i * 32 + lane]);
      const int64_t at = (factor * p.num_rows + row) * p.dim + column;
      const float query = simt::to_float(static_cast<const Value*>(p.query)[at]);
      static_cast<Value*>(g.to_query)[at] = simt::from_float<Value>(mine.query);
      static_cast<Value*>(g.to_residual)[at] = simt::from_float<Value>(mine.residual);
      static_cast<Value*>(g.to_key)[at] = simt::from_float<Value>(mine.key + mine.own_grad * query);
      static_cast<Value*>(g.to_value)[at] = simt::from_float<Value>(mine.value);
    }
    __syncthreads();  // the next columns' sums may overwrite these
  }
}

__device__ __forceinline__ float sum_of_parts(const float* parts, int64_t at, int num_parts,
                                              int64_t stride) {
  float sum = 0.0f;
  for (int part = 0; part < num_parts; ++part) sum += parts[part * stride + at];
  return sum;
}

// Grid: (threads for the values of a part, factors).
template <typename Value>
__global__ void score_weight_grads(ScoreGradParams g) {
  const ScoreParams& p = g.forward;
  const ScorePart& part = g.part;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int factor = blockIdx.y;
  if (at >= part.size) return;
  const float sum =
      sum_of_parts(g.parts, factor * part.size + at, g.num_parts, p.num_factors * part.size);
  const auto put = [&](void* to, int64_t first, int64_t last, int64_t factor_stride) {
    if (at >= first && at < last) {
      static_cast<Value*>(to)[factor * factor_stride + at - first] = simt::from_float<Value>(sum);
    }
  };
  const int64_t distances = static_cast<int64_t>(p.num_distances) * p.dim;
  put(g.to_out_weight, part.out_weight, part.ff1_weight, part.ff1_weight - part.out_weight);
  put(g.to_ff1_weight, part.ff1_weight, part.ff1_bias, part.ff1_bias - part.ff1_weight);
  put(g.to_ff1_bias, part.ff1_bias, part.ff2_weight, p.width);
  put(g.to_ff2_weight, part.ff2_weight, part.ff2_bias, part.ff2_bias - part.ff2_weight);
  put(g.to_ff2_bias, part.ff2_bias, part.head_weight, p.dim);
  put(g.to_head_weight, part.head_weight, part.head_bias, p.dim);
  put(g.to_head_bias, part.head_bias, part.own_key, 1);
  put(g.to_position_key, part.own_key, part.own_value, distances);
  put(g.to_position_value, part.own_value, part.size, distances);
}

// Distances from 1 on; those that no score sees get zero. Grid: (threads for them, factors).
template <typename Value>
__global__ void score_position_grads(ScoreGradParams g) {
  const ScoreParams& p = g.forward;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t seen = static_cast<int64_t>(p.max_history) * p.dim;
  const int64_t all = static_cast<int64_t>(p.num_distances - 1) * p.dim;
  const int factor = blockIdx.y;
  if (at >= all) return;
  const int64_t to = factor * (all + p.dim) + p.dim + at;
  float key = 0.0f, value = 0.0f;
  if (at < seen) {
    const int64_t from = factor * seen + at, stride = p.num_factors * seen;
    key = sum_of_parts(g.distance_key, from, g.num_position_parts, stride);
    value = sum_of_parts(g.distance_value, from, g.num_position_parts, stride);
  }
  static_cast<Value*>(g.to_position_key)[to] = simt::from_float<Value>(key);
  static_cast<Value*>(g.to_position_value)[to] = simt::from_float<Value>(value);
}

}  // namespace mfgan::gpu
