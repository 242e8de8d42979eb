// The attention of a position's candidates over their history and themselves, one warp a unit.
#pragma once

#include "kernels/factor_score_gather.cuh"

namespace mfgan::gpu {

// Columns of a tile of the dense layers' operands: a matrix of rows lies in shared memory as tiles
// of all its rows and kChunk columns each, one behind another.
constexpr int kChunk = 32;
template <typename Arithmetic>
constexpr int kChunkStride = kRowStride<Arithmetic, kChunk>;

__host__ __device__ __forceinline__ int num_chunks(int columns) {
  return (columns + kChunk - 1) / kChunk;
}

template <typename Arithmetic>
__device__ __forceinline__ int chunk_index(int num_rows, int row, int column) {
  return (column / kChunk * num_rows + row) * kChunkStride<Arithmetic> + column % kChunk;
}

// What a warp needs of shared memory for its attention: tiles of candidates and two stages.
template <typename Arithmetic, int kDim, int kCandidateTiles>
constexpr int kScoreWarpValues = (kCandidateTiles * kWarpRows +
                                  4 * kScoreColumns<Arithmetic, kDim>)*kRowStride<Arithmetic, kDim>;

// What draws in one step: the attention weights, then each of the two residual branches.
enum class ScoreSite { weights, projected, fed };

__device__ __forceinline__ uint64_t score_place(const ScoreParams& p, ScoreSite site) {
  return p.rng ? place_key(p.rng[0], p.rng[1], p.site + static_cast<int>(site)) : 0;
}

__device__ __forceinline__ RowKey weight_key(const ScoreParams& p, uint64_t place, int64_t score,
                                             int factor, int head) {
  return row_key(place, (score * p.num_factors + factor) * p.num_heads + head);
}

// The two candidates of a lane's rows, as their own keys and values at distance 0.
template <typename Arithmetic, int kDim>
struct OwnTerm {
  using Value = typename Arithmetic::Value;
  const ScoreParams& p;
  const HeadTables<Value>& tables;
  int rows[2];  // of the tables, negative past the last candidate

  __device__ __forceinline__ OwnTerm(const ScoreParams& params, const HeadTables<Value>& of,
                                     const ScoreUnit& unit)
      : p(params), tables(of) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = element_row(2 * half);
      rows[half] =
          row < unit.num_scores ? static_cast<int>(p.candidate_rows[unit.first + row]) : -1;
    }
  }

  __device__ __forceinline__ float sum_at(const Value* table, const Value* positions, int half,
                                          int column) const {
    if (rows[half] < 0 || column >= p.head_dim) return 0.0f;
    const Value own = table[static_cast<int64_t>(rows[half]) * p.dim + column];
    return simt::to_float(sum_of(own, positions[column]));
  }
  __device__ __forceinline__ float key_at(int half, int column) const {
    return sum_at(tables.key, tables.position_key, half, column);
  }
  __device__ __forceinline__ float value_at(int half, int column) const {
    return sum_at(tables.value, tables.position_value, half, column);
  }

  // The product of a tile's row with the candidate's own key or value, the same in all four lanes.
  template <bool kWithKeys>
  __device__ __forceinline__ float product(const Value* tile, int half) const {
    const Value* row = tile + element_row(2 * half) * kRowStride<Arithmetic, kDim>;
    float sum = 0.0f;
    for (int column = lane_index() % 4; column < p.head_dim; column += 4) {
      sum +=
          simt::to_float(row[column]) * (kWithKeys ? key_at(half, column) : value_at(half, column));
    }
    return quad_sum(sum);
  }
};

// Attends for one head of a unit and puts the result into rows `tile_row` and after of `attended`,
// a tile of `num_rows` rows in chunks. `lse`, where it is not null, gets (score, head)
// log-sum-exps.
template <typename Arithmetic, int kDim>
__device__ __forceinline__ void attend(const ScoreParams& p, uint64_t place, const ScoreUnit& unit,
                                       int factor, int head, typename Arithmetic::Value* scratch,
                                       typename Arithmetic::Value* attended, int num_rows,
                                       int tile_row, float* lse) {
  using Value = typename Arithmetic::Value;
  constexpr int kTiles = kScoreColumns<Arithmetic, kDim> / 8;
  const HeadTables<Value> tables(p, factor, head);
  const int lane = lane_index();
  const int my_candidate =
      lane < unit.num_scores ? static_cast<int>(p.candidate_rows[unit.first + lane]) : -1;
  Value* query_tile = scratch;
  gather_rows<Arithmetic, kDim, kWarpRows>(query_tile, tables.query, my_candidate, p);

  RowKey keys_of_rows[2];
  if (p.rng) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      keys_of_rows[half] = weight_key(p, place, unit.first + element_row(2 * half), factor, head);
    }
  }
  // Cleared: a register that only the first tile writes would be held from the kernel's start on.
  RowOperand<Arithmetic, kDim> queries{};
  OnlineSoftmax<kDim> softmax;
  walk_history<Arithmetic, kDim>(
      p, unit, tables, scratch + kWarpRows * kRowStride<Arithmetic, kDim>,
      [&](int first, const Value* keys, const Value* values) {
        if (first == 1) queries.load(query_tile);
        float logits[kTiles][4] = {};
        add_nt(logits, queries, keys);
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const bool seen = first + element_column(n, e) <= unit.history;
            logits[n][e] = seen ? logits[n][e] * p.scale * kLog2E : -INFINITY;
          }
        }
        softmax.step(logits);
        if (p.rng) {
#pragma unroll
          for (int n = 0; n < kTiles; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              const auto distance = static_cast<uint32_t>(first + element_column(n, e));
              if (!keeps(keys_of_rows[e / 2], distance, p.drop_threshold)) logits[n][e] = 0.0f;
            }
          }
        }
        add_nn(Arithmetic{}, softmax.acc, logits, values);
      });

  const OwnTerm<Arithmetic, kDim> own(p, tables, unit);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float logit = own.template product<true>(query_tile, half) * p.scale * kLog2E;
    const float peak = fmaxf(softmax.peak[half], logit);
    const float rescale = exp2f(softmax.peak[half] - peak), weight = exp2f(logit - peak);
    const float total = quad_sum(softmax.total[half]) * rescale + weight;
    const bool kept = !p.rng || keeps(keys_of_rows[half], 0, p.drop_threshold);
    const int row = element_row(2 * half);
    if (row >= unit.num_scores) continue;
    if (lse && lane % 4 == 0) {
      lse[(unit.first + row) * p.num_heads + head] = peak * kLn2 + __logf(total);
    }
#pragma unroll
    for (int d = 0; d < kDim / 8; ++d) {
#pragma unroll
      for (int e = 2 * half; e < 2 * half + 2; ++e) {
        const int column = element_column(d, e);
        if (column >= p.head_dim) continue;
        const float sum =
            softmax.acc[d][e] * rescale + (kept ? weight * own.value_at(half, column) : 0.0f);
        attended[chunk_index<Arithmetic>(num_rows, tile_row + row, head * p.head_dim + column)] =
            simt::from_float<Value>(sum * (p.keep_scale / total));
      }
    }
  }
  __syncwarp();  // the next head's query may overwrite this one's
}

}  // namespace mfgan::gpu
