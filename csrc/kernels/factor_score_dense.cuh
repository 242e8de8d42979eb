// The dense layers behind the attention, on a block's tile of rows: a warp owns 16 of them.
#pragma once

#include "kernels/factor_score_attend.cuh"

namespace mfgan::gpu {

// Where a block's rows stand among all scores.
struct ScoreRows {
  int64_t first;
  int num_rows;  // of the tile, a multiple of kWarpRows
  int num_valid;

  __device__ __forceinline__ int mine(int element) const {
    return threadIdx.x / 32 * kWarpRows + element_row(element);
  }
};

// A kChunk x kChunk part of a matrix (num_out, num_in), zero beyond it.
template <typename Arithmetic>
__device__ __forceinline__ void load_weights(typename Arithmetic::Value* tile,
                                             const typename Arithmetic::Value* weight, int num_out,
                                             int num_in, int first_out, int first_in,
                                             bool aligned) {
  using Value = typename Arithmetic::Value;
  constexpr int kWide = 16 / static_cast<int>(sizeof(Value)), kParts = kChunk / kWide;
  if (aligned && num_in % kWide == 0) {
    for (int i = threadIdx.x; i < kChunk * kParts; i += blockDim.x) {
      const int out = first_out + i / kParts, in = first_in + i % kParts * kWide;
      const bool valid = out < num_out && in < num_in;
      const Value* from = weight + (valid ? static_cast<int64_t>(out) * num_in + in : 0);
      simt::cp_async16(tile + i / kParts * kChunkStride<Arithmetic> + i % kParts * kWide, from,
                       valid);
    }
  } else {
    for (int i = threadIdx.x; i < kChunk * kChunk; i += blockDim.x) {
      const int out = first_out + i / kChunk, in = first_in + i % kChunk;
      const bool valid = out < num_out && in < num_in;
      tile[i / kChunk * kChunkStride<Arithmetic> + i % kChunk] =
          valid ? weight[static_cast<int64_t>(out) * num_in + in] : simt::from_float<Value>(0.0f);
    }
  }
}

// rows (num_rows x num_in, in chunks) times weight (num_out, num_in) transposed. Calls
// `use(column, row element, value)` for each output of this warp's rows, columns past num_out
// included up to the chunk's end. Every thread of the block comes; `stages` holds two weight tiles.
template <typename Arithmetic, typename Use>
__device__ __forceinline__ void multiply_rows(const typename Arithmetic::Value* rows, int num_rows,
                                              const typename Arithmetic::Value* weight, int num_out,
                                              int num_in, typename Arithmetic::Value* stages,
                                              bool aligned, Use use) {
  using Value = typename Arithmetic::Value;
  constexpr int kTile = kChunk * kChunkStride<Arithmetic>;
  const int in_chunks = num_chunks(num_in), steps = num_chunks(num_out) * in_chunks;
  const Value* mine = rows + threadIdx.x / 32 * kWarpRows * kChunkStride<Arithmetic>;
  const auto fetch = [&](int step, int stage) {
    load_weights<Arithmetic>(stages + stage * kTile, weight, num_out, num_in,
                             step / in_chunks * kChunk, step % in_chunks * kChunk, aligned);
    simt::cp_async_commit();
  };
  float acc[kChunk / 8][4] = {};
  fetch(0, 0);
  for (int step = 0; step < steps; ++step) {
    const int stage = step % 2, chunk = step % in_chunks;
    if (step + 1 < steps) {
      fetch(step + 1, stage ^ 1);
      simt::cp_async_wait<1>();
    } else {
      simt::cp_async_wait<0>();
    }
    __syncthreads();  // every thread's part of this stage has arrived, and so have the rows
    RowOperand<Arithmetic, kChunk> operand;
    operand.load(mine + chunk * num_rows * kChunkStride<Arithmetic>);
    add_nt(acc, operand, stages + stage * kTile);
    if (chunk == in_chunks - 1) {
#pragma unroll
      for (int n = 0; n < kChunk / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          use(step / in_chunks * kChunk + element_column(n, e), e, acc[n][e]);
          acc[n][e] = 0.0f;
        }
      }
    }
    __syncthreads();  // the next fetch may overwrite this stage
  }
}

constexpr float kNormEps = 1e-5f;

// Rows of `wide` (this warp's 16, `stride` apart) without their mean and of unit variance, as an
// operand in chunks; columns past dim are zero. Keeps 1 / deviation in `inverse` where not null.
template <typename Arithmetic>
__device__ __forceinline__ void normalise(const float* wide, int stride, int dim, int num_rows,
                                          typename Arithmetic::Value* normed, float* inverse) {
  using Value = typename Arithmetic::Value;
  const int row = threadIdx.x / 32 * kWarpRows + lane_index() / 2, side = lane_index() % 2;
  const float* from = wide + row * stride;
  float mean = 0.0f, square = 0.0f;
  for (int d = side; d < dim; d += 2) mean += from[d];
  mean = (mean + __shfl_xor_sync(kWholeWarp, mean, 1)) / static_cast<float>(dim);
  for (int d = side; d < dim; d += 2) square += (from[d] - mean) * (from[d] - mean);
  square = (square + __shfl_xor_sync(kWholeWarp, square, 1)) / static_cast<float>(dim);
  const float scale = rsqrtf(square + kNormEps);
  if (inverse && side == 0) inverse[row] = scale;
  for (int d = side; d < num_chunks(dim) * kChunk; d += 2) {
    normed[chunk_index<Arithmetic>(num_rows, row, d)] =
        simt::from_float<Value>(d < dim ? (from[d] - mean) * scale : 0.0f);
  }
}

// One factor of the dense layers' arrays.
template <typename Value>
struct DenseLayers {
  const Value *residual, *out_weight, *ff1_weight, *ff1_bias, *ff2_weight, *ff2_bias, *head_weight;
  float head_bias;

  __device__ __forceinline__ DenseLayers(const ScoreParams& p, int factor) {
    const auto part = [&](const void* all, int64_t size) {
      return static_cast<const Value*>(all) + factor * size;
    };
    const int64_t square = static_cast<int64_t>(p.dim) * p.dim;
    const int64_t wide = static_cast<int64_t>(p.dim) * p.width;
    residual = part(p.residual, p.num_rows * p.dim);
    out_weight = part(p.out_weight, square);
    ff1_weight = part(p.ff1_weight, wide);
    ff1_bias = part(p.ff1_bias, p.width);
    ff2_weight = part(p.ff2_weight, wide);
    ff2_bias = part(p.ff2_bias, p.dim);
    head_weight = part(p.head_weight, p.dim);
    head_bias = simt::to_float(*part(p.head_bias, 1));
  }
};

// What a lane knows of its two rows: the candidate, and how the residual branches are dropped.
struct DenseRow {
  int64_t score;
  int candidate;  // negative past the last score
  RowKey projected, fed;
};

__device__ __forceinline__ void read_dense_rows(const ScoreParams& p, const ScoreRows& rows,
                                                int factor, DenseRow (&mine)[2]) {
  const uint64_t projected = score_place(p, ScoreSite::projected);
  const uint64_t fed = score_place(p, ScoreSite::fed);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = rows.mine(2 * half);
    DenseRow& to = mine[half];
    to.score = rows.first + row;
    to.candidate = row < rows.num_valid ? static_cast<int>(p.candidate_rows[to.score]) : -1;
    if (!p.rng) continue;
    to.projected = row_key(projected, to.score * p.num_factors + factor);
    to.fed = row_key(fed, to.score * p.num_factors + factor);
  }
}

__device__ __forceinline__ float dropped(const ScoreParams& p, RowKey key, int column, float x) {
  if (!p.rng) return x;
  return keeps(key, static_cast<uint32_t>(column), p.drop_threshold) ? x * p.keep_scale : 0.0f;
}

}  // namespace mfgan::gpu
