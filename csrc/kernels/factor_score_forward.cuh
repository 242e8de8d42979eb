// Scores of candidates after prefixes of sessions: attention, output projection, feed-forward and
// head of every factor in one launch. Nothing of the size of the histories leaves the block.
#pragma once

#include "kernels/factor_score_dense.cuh"

namespace mfgan::gpu {

constexpr int kScoreWarps = 4;  // of a block at most

// Values from one float32 row to the next; odd, so that rows begin in different banks.
__host__ __device__ __forceinline__ int wide_stride(int dim) {
  return num_chunks(dim) * kChunk + 1;
}

template <typename Arithmetic>
__host__ __device__ __forceinline__ int chunked_values(int num_rows, int columns) {
  return num_chunks(columns) * num_rows * kChunkStride<Arithmetic>;
}

// The attention's tiles and the dense layers' take turns in one place behind the attended rows.
template <typename Arithmetic, int kDim>
size_t score_forward_shared_bytes(const ScoreParams& p, int num_warps) {
  constexpr size_t kSize = sizeof(typename Arithmetic::Value);
  const int rows = num_warps * kWarpRows;
  const size_t attention = kSize * num_warps * kScoreWarpValues<Arithmetic, kDim, 1>;
  const size_t dense = sizeof(float) * rows * wide_stride(p.dim) +
                       kSize * (chunked_values<Arithmetic>(rows, p.width) +
                                2 * chunked_values<Arithmetic>(kChunk, kChunk));
  return kSize * chunked_values<Arithmetic>(rows, p.dim) + std::max(attention, dense);
}

// Clears a block's rows: what no candidate or no feature fills stays zero.
template <typename Value>
__device__ __forceinline__ void clear_values(Value* values, int count) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) values[i] = simt::from_float<Value>(0.0f);
}

// hidden = residual + dropout(attended . out_weight^T), in float32.
template <typename Arithmetic>
__device__ __forceinline__ void project_rows(const ScoreParams& p,
                                             const DenseLayers<typename Arithmetic::Value>& layers,
                                             const ScoreRows& rows, const DenseRow (&mine)[2],
                                             const typename Arithmetic::Value* attended,
                                             float* hidden, typename Arithmetic::Value* stages) {
  multiply_rows<Arithmetic>(
      attended, rows.num_rows, layers.out_weight, p.dim, p.dim, stages, p.aligned,
      [&](int column, int e, float x) {
        if (column >= p.dim) return;
        const DenseRow& row = mine[e / 2];
        float sum = dropped(p, row.projected, column, x);
        if (row.candidate >= 0) {
          sum +=
              simt::to_float(layers.residual[static_cast<int64_t>(row.candidate) * p.dim + column]);
        }
        hidden[rows.mine(e) * wide_stride(p.dim) + column] = sum;
      });
}

// inner = relu(normed . ff1_weight^T + ff1_bias), zero past the width.
template <typename Arithmetic>
__device__ __forceinline__ void feed_rows(const ScoreParams& p,
                                          const DenseLayers<typename Arithmetic::Value>& layers,
                                          const ScoreRows& rows,
                                          const typename Arithmetic::Value* normed,
                                          typename Arithmetic::Value* inner,
                                          typename Arithmetic::Value* stages) {
  using Value = typename Arithmetic::Value;
  multiply_rows<Arithmetic>(normed, rows.num_rows, layers.ff1_weight, p.width, p.dim, stages,
                            p.aligned, [&](int column, int e, float x) {
                              const bool real = column < p.width;
                              const float sum =
                                  real ? x + simt::to_float(layers.ff1_bias[column]) : 0.0f;
                              inner[chunk_index<Arithmetic>(rows.num_rows, rows.mine(e), column)] =
                                  simt::from_float<Value>(fmaxf(sum, 0.0f));
                            });
}

// Grid: (blocks of scores, factors); a block goes on to later tiles where the grid is capped.
template <typename Arithmetic, int kDim>
__global__ void __launch_bounds__(kScoreWarps * 32, 1) factor_score_forward(ScoreParams p) {
  using Value = typename Arithmetic::Value;
  const int factor = blockIdx.y, warp = threadIdx.x / 32;
  const int num_rows = blockDim.x / 32 * kWarpRows, stride = wide_stride(p.dim);
  SIMT_SHARED(Value, attended);
  Value* scratch = attended + chunked_values<Arithmetic>(num_rows, p.dim);
  auto* hidden = reinterpret_cast<float*>(scratch);
  auto* inner = reinterpret_cast<Value*>(hidden + num_rows * stride);
  Value* stages = inner + chunked_values<Arithmetic>(num_rows, p.width);
  const uint64_t place = score_place(p, ScoreSite::weights);
  const DenseLayers<Value> layers(p, factor);

  for (int64_t first = static_cast<int64_t>(blockIdx.x) * num_rows; first < p.num_scores;
       first += static_cast<int64_t>(gridDim.x) * num_rows) {
    const int64_t last = min(first + num_rows, p.num_scores);
    const ScoreRows rows{first, num_rows, static_cast<int>(last - first)};
    clear_values(attended, chunked_values<Arithmetic>(num_rows, p.dim));
    __syncthreads();  // cleared before any warp fills its part
    for_each_unit(p, first, last, [&](const ScoreUnit& unit) {
      for (int head = 0; head < p.num_heads; ++head) {
        attend<Arithmetic, kDim>(p, place, unit, factor, head,
                                 scratch + warp * kScoreWarpValues<Arithmetic, kDim, 1>, attended,
                                 num_rows, static_cast<int>(unit.first - first), nullptr);
      }
    });
    __syncthreads();  // all rows are attended, and the attention's tiles may be overwritten

    DenseRow mine[2];
    read_dense_rows(p, rows, factor, mine);
    project_rows<Arithmetic>(p, layers, rows, mine, attended, hidden, stages);
    normalise<Arithmetic>(hidden, stride, p.dim, num_rows, attended, nullptr);
    feed_rows<Arithmetic>(p, layers, rows, attended, inner, stages);
    float score[2] = {};
    multiply_rows<Arithmetic>(inner, num_rows, layers.ff2_weight, p.dim, p.width, stages, p.aligned,
                              [&](int column, int e, float x) {
                                if (column >= p.dim) return;
                                const float fed = x + simt::to_float(layers.ff2_bias[column]);
                                const float out = hidden[rows.mine(e) * stride + column] +
                                                  dropped(p, mine[e / 2].fed, column, fed);
                                score[e / 2] += simt::to_float(layers.head_weight[column]) * out;
                              });
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = quad_sum(score[half]) + layers.head_bias;
      if (lane_index() % 4 == 0 && mine[half].candidate >= 0) {
        static_cast<Value*>(p.out)[mine[half].score * p.num_factors + factor] =
            simt::from_float<Value>(sum);
      }
    }
  }
}

}  // namespace mfgan::gpu
