// Gradients of factor_score, the pass over scores: everything is computed again from the inputs, a
// tile of rows at a time; what belongs to a row is written out, what belongs to the weights is
// added to this block's part, in the order of its tiles.
#pragma once

#include "kernels/factor_score_attend_backward.cuh"
#include "kernels/factor_score_grad_dense.cuh"

namespace mfgan::gpu {

template <typename Arithmetic, int kDim>
size_t score_grad_rows_shared_bytes(const ScoreParams& p, int num_warps) {
  constexpr size_t kSize = sizeof(typename Arithmetic::Value);
  const int rows = num_warps * kWarpRows;
  const size_t attention = kSize * num_warps * kScoreWarpValues<Arithmetic, kDim, 2>;
  const size_t dense = sizeof(float) * rows * (wide_stride(p.dim) + 2) +
                       kSize * (2 * chunked_values<Arithmetic>(rows, p.dim) +
                                chunked_values<Arithmetic>(rows, p.width) +
                                2 * chunked_values<Arithmetic>(kChunk, kChunk));
  return kSize * chunked_values<Arithmetic>(rows, p.dim) + std::max(attention, dense);
}

// Grid: (parts, factors).
template <typename Arithmetic, int kDim>
__global__ void __launch_bounds__(kScoreWarps * 32, 1) factor_score_grad_rows(ScoreGradParams g) {
  using Value = typename Arithmetic::Value;
  const ScoreParams& p = g.forward;
  const int factor = blockIdx.y, warp = threadIdx.x / 32;
  const int num_rows = blockDim.x / 32 * kWarpRows;
  SIMT_SHARED(Value, shared);
  Value* attended = shared;
  Value* scratch = attended + chunked_values<Arithmetic>(num_rows, p.dim) +
                   warp * kScoreWarpValues<Arithmetic, kDim, 2>;
  const uint64_t place = score_place(p, ScoreSite::weights);
  float* lse = g.lse + factor * p.num_scores * p.num_heads;
  float* part = g.parts + (static_cast<int64_t>(blockIdx.x) * p.num_factors + factor) * g.part.size;
  for (int64_t i = threadIdx.x; i < g.part.size; i += blockDim.x) part[i] = 0.0f;

  for (int64_t first = static_cast<int64_t>(blockIdx.x) * num_rows; first < p.num_scores;
       first += static_cast<int64_t>(gridDim.x) * num_rows) {
    const int64_t last = min(first + num_rows, p.num_scores);
    const ScoreRows rows{first, num_rows, static_cast<int>(last - first)};
    clear_values(attended, chunked_values<Arithmetic>(num_rows, p.dim));
    __syncthreads();  // cleared before any warp fills its part; the last tile is done with
    for_each_unit(p, first, last, [&](const ScoreUnit& unit) {
      for (int head = 0; head < p.num_heads; ++head) {
        attend<Arithmetic, kDim>(p, place, unit, factor, head, scratch, attended, num_rows,
                                 static_cast<int>(unit.first - first), lse);
      }
    });
    __syncthreads();  // all rows are attended, and the attention's tiles may be overwritten
    // Its tiles and keys are worked out here: before the loop they would take registers from the
    // attention.
    grad_dense<Arithmetic>(g, rows, factor, part, GradTiles<Arithmetic>(shared, p, num_rows));
    for_each_unit(p, first, last, [&](const ScoreUnit& unit) {
      for (int head = 0; head < p.num_heads; ++head) {
        attend_backward<Arithmetic, kDim>(g, place, unit, factor, head, scratch, attended, num_rows,
                                          static_cast<int>(unit.first - first));
      }
    });
    __syncthreads();  // the own terms of all rows are there
    const auto* query = static_cast<const Value*>(p.query) + factor * p.num_rows * p.dim;
    const auto* grads = static_cast<const Value*>(g.grad_attended);
    const int64_t base = factor * p.num_scores + first;
    add_column_sums(part + g.part.own_key, p.dim, rows.num_valid, [&](int row, int column) {
      const float grad = g.own_grad[(base + row) * p.num_heads + column / p.head_dim];
      return grad * simt::to_float(query[p.candidate_rows[first + row] * p.dim + column]);
    });
    add_column_sums(part + g.part.own_value, p.dim, rows.num_valid, [&](int row, int column) {
      const float weight = g.own_weight[(base + row) * p.num_heads + column / p.head_dim];
      return weight * simt::to_float(grads[(base + row) * p.dim + column]);
    });
  }
}

}  // namespace mfgan::gpu
