// Gradients of factor_score, the passes over keys: what a token's key and value get from all scores
// that see it, and what a distance's get from all scores. A warp owns 16 of either, walks over
// positions in a fixed order and keeps its sums in registers: no atomics, no second writer.
#pragma once

#include "kernels/factor_score_attend_backward.cuh"

namespace mfgan::gpu {

template <typename Arithmetic, int kDim>
constexpr size_t kScoreGradKeysBytes =
    sizeof(typename Arithmetic::Value) * 4 * kWarpRows * kRowStride<Arithmetic, kDim>;  // a warp

// The first of `count` ascending values that is not below `least`.
__device__ __forceinline__ int64_t lower_bound(const int64_t* values, int64_t count,
                                               int64_t least) {
  int64_t low = 0, high = count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (values[middle] < least) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// The key that a lane below kWarpRows stands for at one position; negative where unseen.
struct SeenKey {
  int row, distance;
};

// 16 tokens: distances follow from the position.
struct TokenKeys {
  int64_t token, end;   // a lane's token and the end of its session
  int64_t first, last;  // places in the sorted positions; tokens past `last` see none of them
  const ScoreGradParams& g;

  __device__ __forceinline__ TokenKeys(const ScoreGradParams& grad, int64_t tile, int /*chunk*/)
      : g(grad) {
    const ScoreParams& p = g.forward;
    const int64_t begin = tile * kWarpRows;
    token = begin + lane_index();
    end = token < p.total_tokens ? session_around(p, token).end : 0;
    const int64_t rest = min(p.total_tokens - begin, static_cast<int64_t>(kWarpRows));
    const int64_t last_end = __shfl_sync(kWholeWarp, end, static_cast<int>(rest) - 1);
    const int64_t num_positions = p.num_scores / p.num_candidates;
    first = lower_bound(g.sorted_positions, num_positions, begin);
    last = lower_bound(g.sorted_positions, num_positions,
                       min(last_end, begin + kWarpRows + p.max_history));
  }
  __device__ __forceinline__ int64_t position_at(int64_t place) const {
    return g.position_order[place];
  }
  __device__ __forceinline__ int history_at(int64_t /*last_token*/) const { return 0; }
  __device__ __forceinline__ SeenKey seen(int64_t last_token, int /*history*/) const {
    const int64_t distance = last_token - token + 1;
    const bool is_seen = lane_index() < kWarpRows && distance >= 1 && last_token < end &&
                         distance <= g.forward.max_history;
    if (!is_seen) return {-1, -1};
    return {static_cast<int>(g.forward.history_rows[token]), static_cast<int>(distance)};
  }
};

// 16 distances from a multiple of 16 plus 1 on: tokens follow from the position.
struct DistanceKeys {
  int distance;
  int64_t first, last;  // positions of this part
  const ScoreGradParams& g;

  __device__ __forceinline__ DistanceKeys(const ScoreGradParams& grad, int64_t tile, int chunk)
      : g(grad) {
    distance = static_cast<int>(tile) * kWarpRows + 1 + lane_index();
    const int64_t num_positions = g.forward.num_scores / g.forward.num_candidates;
    const int64_t size = (num_positions + g.num_position_parts - 1) / g.num_position_parts;
    first = min(chunk * size, num_positions);
    last = min(first + size, num_positions);
  }
  __device__ __forceinline__ int64_t position_at(int64_t place) const { return place; }
  __device__ __forceinline__ int history_at(int64_t last_token) const {
    return history_of(g.forward, last_token);
  }
  __device__ __forceinline__ SeenKey seen(int64_t last_token, int history) const {
    if (lane_index() >= kWarpRows || distance > history) return {-1, -1};
    return {static_cast<int>(g.forward.history_rows[last_token - distance + 1]), distance};
  }
};

// What a lane needs of the two times two candidates that its columns stand for.
struct CandidateColumns {
  float lse[2][2], delta[2][2];
  RowKey keys[2][2];
  bool real[2][2];

  __device__ __forceinline__ CandidateColumns(const ScoreGradParams& g, uint64_t place,
                                              int64_t first, int count, int factor, int head) {
    const ScoreParams& p = g.forward;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column = element_column(n, i);
        const int64_t score = first + column;
        const int64_t at = (factor * p.num_scores + score) * p.num_heads + head;
        real[n][i] = column < count;
        lse[n][i] = real[n][i] ? g.lse[at] : 0.0f;
        delta[n][i] = real[n][i] ? g.delta[at] : 0.0f;
        if (p.rng) keys[n][i] = weight_key(p, place, score, factor, head);
      }
    }
  }
};

// Grid: (blocks of keys, heads, factors x parts of the positions). Warps go their own ways.
template <typename Arithmetic, int kDim, typename Keys>
__global__ void __launch_bounds__(kScoreWarps * 32, 1)
    factor_score_grad_keys(ScoreGradParams g, int64_t num_keys, int num_chunks_of_positions,
                           float* to_keys, float* to_values) {
  using Value = typename Arithmetic::Value;
  constexpr int kTile = kWarpRows * kRowStride<Arithmetic, kDim>;
  const ScoreParams& p = g.forward;
  const int warp = threadIdx.x / 32, lane = lane_index(), head = blockIdx.y;
  const int factor = blockIdx.z / num_chunks_of_positions;
  const int chunk = blockIdx.z % num_chunks_of_positions;
  const int64_t tile = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + warp;
  SIMT_SHARED(Value, shared);
  Value *key_tile = shared + warp * 4 * kTile, *value_tile = key_tile + kTile;
  Value *query_tile = value_tile + kTile, *grad_tile = query_tile + kTile;
  if (tile * kWarpRows >= num_keys) return;

  const uint64_t place = score_place(p, ScoreSite::weights);
  const HeadTables<Value> tables(p, factor, head);
  const Value* grads = static_cast<const Value*>(g.grad_attended) + factor * p.num_scores * p.dim +
                       head * p.head_dim;
  const Keys keys(g, tile, chunk);
  float grad_keys[kDim / 8][4] = {}, grad_values[kDim / 8][4] = {};

  const auto add_candidates = [&](int64_t first, int count, const SeenKey& mine) {
    const int distances[2] = {__shfl_sync(kWholeWarp, mine.distance, element_row(0)),
                              __shfl_sync(kWholeWarp, mine.distance, element_row(2))};
    float logits[2][4] = {}, grad_weights[2][4] = {};
    RowOperand<Arithmetic, kDim> operand;
    operand.load(key_tile);
    add_nt(logits, operand, query_tile);
    operand.load(value_tile);
    add_nt(grad_weights, operand, grad_tile);
    const CandidateColumns columns(g, place, first, count, factor, head);
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int distance = distances[e / 2], i = e % 2;
        const bool kept =
            !p.rng || keeps(columns.keys[n][i], static_cast<uint32_t>(distance), p.drop_threshold);
        const bool seen = distance > 0 && columns.real[n][i];
        const ScoreWeight result = score_weight(p, logits[n][e], columns.lse[n][i],
                                                grad_weights[n][e], columns.delta[n][i], kept);
        logits[n][e] = seen ? result.grad : 0.0f;
        grad_weights[n][e] = seen ? result.weight : 0.0f;
      }
    }
    add_nn(Arithmetic{}, grad_keys, logits, query_tile);
    add_nn(Arithmetic{}, grad_values, grad_weights, grad_tile);
  };

  const auto add_position = [&](int64_t position, int64_t last_token, int history) {
    const SeenKey mine = keys.seen(last_token, history);
    if (!__any_sync(kWholeWarp, mine.distance > 0)) return;
    for (int first = 0; first < p.num_candidates; first += kWarpRows) {
      const int64_t score = position * p.num_candidates + first;
      const int count = min(p.num_candidates - first, kWarpRows);
      const bool real = lane < count;
      __syncwarp();  // the last group's tiles have been read
      gather_rows<Arithmetic, kDim, kWarpRows>(
          query_tile, tables.query, real ? static_cast<int>(p.candidate_rows[score + lane]) : -1,
          p);
      gather_rows<Arithmetic, kDim, kWarpRows>(grad_tile, grads + score * p.dim, real ? lane : -1,
                                               p);
      simt::cp_async_commit();
      if (first == 0) {
        build_sums<Arithmetic, kDim>(key_tile, tables.key, tables.position_key, mine.row,
                                     mine.distance, p);
        build_sums<Arithmetic, kDim>(value_tile, tables.value, tables.position_value, mine.row,
                                     mine.distance, p);
      }
      simt::cp_async_wait<0>();
      __syncwarp();  // every lane's part of the four tiles is there
      add_candidates(score, count, mine);
    }
  };

  // What the positions need is read for 32 of them side by side.
  for (int64_t base = keys.first; base < keys.last; base += 32) {
    const bool real = base + lane < keys.last;
    const int64_t position = real ? keys.position_at(base + lane) : 0;
    const int64_t token = real ? p.positions[position] : 0;
    const int history = real ? keys.history_at(token) : 0;
    const int count = static_cast<int>(min(keys.last - base, static_cast<int64_t>(32)));
    for (int i = 0; i < count; ++i) {
      add_position(__shfl_sync(kWholeWarp, position, i), __shfl_sync(kWholeWarp, token, i),
                   __shfl_sync(kWholeWarp, history, i));
    }
  }
  const int64_t base = (static_cast<int64_t>(chunk) * p.num_factors + factor) * num_keys;
#pragma unroll
  for (int d = 0; d < kDim / 8; ++d) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int64_t key = tile * kWarpRows + element_row(e);
      const int column = element_column(d, e);
      if (key >= num_keys || column >= p.head_dim) continue;
      const int64_t at = (base + key) * p.dim + head * p.head_dim + column;
      to_keys[at] = grad_keys[d][e];
      to_values[at] = grad_values[d][e];
    }
  }
}

}  // namespace mfgan::gpu
