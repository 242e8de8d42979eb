// Gradients of a unit's attention with respect to its candidates, one warp a unit.
#pragma once

#include "kernels/factor_score_attend.cuh"

namespace mfgan::gpu {

// A weight of the softmax after dropout and the gradient of its product of query and key.
struct ScoreWeight {
  float weight, grad;
};

__device__ __forceinline__ ScoreWeight score_weight(const ScoreParams& p, float product, float lse,
                                                    float grad_weight, float delta, bool kept) {
  const float weight = exp2f((product * p.scale - lse) * kLog2E);
  const float factor = kept ? p.keep_scale : 0.0f;
  return {weight * factor, weight * (grad_weight * factor - delta) * p.scale};
}

// Walks the history again, from the log-sum-exps that `attend` has left and the gradients of what
// it gave. Leaves grad_query, delta, and the weight and the gradient of each candidate's own term.
template <typename Arithmetic, int kDim>
__device__ __forceinline__ void attend_backward(const ScoreGradParams& g, uint64_t place,
                                                const ScoreUnit& unit, int factor, int head,
                                                typename Arithmetic::Value* scratch,
                                                const typename Arithmetic::Value* attended,
                                                int num_rows, int tile_row) {
  using Value = typename Arithmetic::Value;
  constexpr int kTiles = kScoreColumns<Arithmetic, kDim> / 8,
                kStride = kRowStride<Arithmetic, kDim>;
  const ScoreParams& p = g.forward;
  const HeadTables<Value> tables(p, factor, head);
  const int lane = lane_index(), head_column = head * p.head_dim;
  const bool mine = lane < unit.num_scores;
  Value *query_tile = scratch, *grad_tile = scratch + kWarpRows * kStride;
  gather_rows<Arithmetic, kDim, kWarpRows>(
      query_tile, tables.query, mine ? static_cast<int>(p.candidate_rows[unit.first + lane]) : -1,
      p);
  const Value* grads_of_unit = static_cast<const Value*>(g.grad_attended) +
                               (factor * p.num_scores + unit.first) * p.dim + head_column;
  gather_rows<Arithmetic, kDim, kWarpRows>(grad_tile, grads_of_unit, mine ? lane : -1, p);

  RowKey keys_of_rows[2];
  int64_t statistics[2];
  float lse[2] = {}, delta[2] = {};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t score = unit.first + element_row(2 * half);
    statistics[half] = (factor * p.num_scores + score) * p.num_heads + head;
    if (element_row(2 * half) < unit.num_scores) lse[half] = g.lse[statistics[half]];
    if (p.rng) keys_of_rows[half] = weight_key(p, place, score, factor, head);
  }
  // Wide operands are read again for each tile instead of held: registers are short. Those held are
  // cleared: a register that only the first tile writes would be held from the kernel's start on.
  RowOperand<Arithmetic, kDim, kDim <= 64> queries{}, grads{};
  float grad_query[kDim / 8][4] = {};
  walk_history<Arithmetic, kDim>(
      p, unit, tables, scratch + 2 * kWarpRows * kStride,
      [&](int first, const Value* keys, const Value* values) {
        if (first == 1) {
          queries.load(query_tile);
          grads.load(grad_tile);
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const int row = element_row(2 * half);
            float sum = 0.0f;
            for (int d = lane % 4; row < unit.num_scores && d < p.head_dim; d += 4) {
              const int at = chunk_index<Arithmetic>(num_rows, tile_row + row, head_column + d);
              sum += simt::to_float(grad_tile[row * kStride + d]) * simt::to_float(attended[at]);
            }
            delta[half] = quad_sum(sum);
          }
        }
        float logits[kTiles][4] = {}, grad_weights[kTiles][4] = {};
        add_nt(logits, queries, keys);
        add_nt(grad_weights, grads, values);
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int distance = first + element_column(n, e);
            const bool kept = !p.rng || keeps(keys_of_rows[e / 2], static_cast<uint32_t>(distance),
                                              p.drop_threshold);
            const ScoreWeight result =
                score_weight(p, logits[n][e], lse[e / 2], grad_weights[n][e], delta[e / 2], kept);
            logits[n][e] = distance <= unit.history ? result.grad : 0.0f;
          }
        }
        add_nn(Arithmetic{}, grad_query, logits, keys);
      });

  const OwnTerm<Arithmetic, kDim> own(p, tables, unit);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float product = own.template product<true>(query_tile, half);
    const float grad_weight = own.template product<false>(grad_tile, half);
    const bool kept = !p.rng || keeps(keys_of_rows[half], 0, p.drop_threshold);
    const ScoreWeight result = score_weight(p, product, lse[half], grad_weight, delta[half], kept);
    const int row = element_row(2 * half);
    if (row >= unit.num_scores) continue;
    if (lane % 4 == 0) {
      g.delta[statistics[half]] = delta[half];
      g.own_weight[statistics[half]] = result.weight;
      g.own_grad[statistics[half]] = result.grad;
    }
    float* to = g.grad_query + (factor * p.num_scores + unit.first + row) * p.dim + head_column;
#pragma unroll
    for (int d = 0; d < kDim / 8; ++d) {
#pragma unroll
      for (int e = 2 * half; e < 2 * half + 2; ++e) {
        const int column = element_column(d, e);
        if (column >= p.head_dim) continue;
        to[column] = grad_query[d][e] + result.grad * own.key_at(half, column);
      }
    }
  }
  __syncwarp();  // the next head's tiles may overwrite these
}

}  // namespace mfgan::gpu
