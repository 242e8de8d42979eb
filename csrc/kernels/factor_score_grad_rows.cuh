// Gradients of factor_score, the pass over scores: everything is computed again from the inputs, a
// tile of rows at a time; what belongs to a row is written out, what belongs to the weights is
// added to this block's part, in the order of its tiles.
#pragma once

#include "kernels/factor_score_attend_backward.cuh"
#include "kernels/factor_score_forward.cuh"

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

// part (num_out, num_in) += left^T right, both tiles of rows in chunks. A warp adds to places of
// its own.
template <typename Arithmetic>
__device__ __forceinline__ void add_weight_grad(float* part, const typename Arithmetic::Value* left,
                                                int num_out,
                                                const typename Arithmetic::Value* right, int num_in,
                                                int num_rows) {
  const int in_chunks = num_chunks(num_in);
  const int tiles = (num_out + kWarpRows - 1) / kWarpRows * in_chunks;
  for (int tile = threadIdx.x / 32; tile < tiles; tile += blockDim.x / 32) {
    const int first_out = tile / in_chunks * kWarpRows, chunk = tile % in_chunks;
    float acc[kChunk / 8][4] = {};
    for (int first = 0; first < num_rows; first += 16) {
      float fragment[2][4];
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          fragment[n][e] = simt::to_float(left[chunk_index<Arithmetic>(
              num_rows, first + element_column(n, e), first_out + element_row(e))]);
        }
      }
      add_nn(Arithmetic{}, acc, fragment,
             right + (chunk * num_rows + first) * kChunkStride<Arithmetic>);
    }
#pragma unroll
    for (int n = 0; n < kChunk / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int out = first_out + element_row(e), in = chunk * kChunk + element_column(n, e);
        if (out < num_out && in < num_in)
          part[static_cast<int64_t>(out) * num_in + in] += acc[n][e];
      }
    }
  }
}

// part[column] += the sum over rows of `value(row, column)`, a column by one thread.
template <typename ValueAt>
__device__ __forceinline__ void add_column_sums(float* part, int num_columns, int num_rows,
                                                ValueAt value) {
  for (int column = threadIdx.x; column < num_columns; column += blockDim.x) {
    float sum = 0.0f;
    for (int row = 0; row < num_rows; ++row) sum += value(row, column);
    part[column] += sum;
  }
}

// Calls `use(column, element)` for this lane's elements of its warp's rows.
template <typename Use>
__device__ __forceinline__ void for_my_elements(int num_columns, Use use) {
  for (int n = 0; n < num_columns / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) use(element_column(n, e), e);
  }
}

// Turns gradients of the normed rows, in `wide`, into gradients of the rows before the norm, to
// which the residual's `direct(row, d)` are added.
template <typename Arithmetic, typename Direct>
__device__ __forceinline__ void pull_through_norm(float* wide, int stride, int dim, int num_rows,
                                                  const typename Arithmetic::Value* normed,
                                                  const float* inverse, Direct direct) {
  const int row = threadIdx.x / 32 * kWarpRows + lane_index() / 2, side = lane_index() % 2;
  float* grads = wide + row * stride;
  const auto normed_at = [&](int d) {
    return simt::to_float(normed[chunk_index<Arithmetic>(num_rows, row, d)]);
  };
  float mean = 0.0f, along = 0.0f;
  for (int d = side; d < dim; d += 2) {
    mean += grads[d];
    along += grads[d] * normed_at(d);
  }
  const float size = static_cast<float>(dim);
  mean = (mean + __shfl_xor_sync(kWholeWarp, mean, 1)) / size;
  along = (along + __shfl_xor_sync(kWholeWarp, along, 1)) / size;
  for (int d = side; d < dim; d += 2) {
    grads[d] = direct(row, d) + inverse[row] * (grads[d] - mean - normed_at(d) * along);
  }
}

// A block's tiles in shared memory, in the order in which they stand there.
template <typename Arithmetic>
struct GradTiles {
  using Value = typename Arithmetic::Value;
  Value *attended, *scratch;
  float *hidden, *inverse, *grad_out;
  Value *normed, *grads, *inner, *stages;

  __device__ __forceinline__ GradTiles(Value* shared, const ScoreParams& p, int num_rows) {
    attended = shared;
    scratch = attended + chunked_values<Arithmetic>(num_rows, p.dim);
    hidden = reinterpret_cast<float*>(scratch);
    inverse = hidden + num_rows * wide_stride(p.dim);
    grad_out = inverse + num_rows;
    normed = reinterpret_cast<Value*>(grad_out + num_rows);
    grads = normed + chunked_values<Arithmetic>(num_rows, p.dim);
    inner = grads + chunked_values<Arithmetic>(num_rows, p.dim);
    stages = inner + chunked_values<Arithmetic>(num_rows, p.width);
  }
};

// From attended rows to the gradients of all dense weights, grad_hidden and grad_attended.
template <typename Arithmetic>
__device__ __forceinline__ void grad_dense(const ScoreGradParams& g, const ScorePlaces& places,
                                           const ScoreRows& rows, int factor, float* part,
                                           const GradTiles<Arithmetic>& t) {
  using Value = typename Arithmetic::Value;
  const ScoreParams& p = g.forward;
  const int n = rows.num_rows, stride = wide_stride(p.dim);
  const int padded_dim = num_chunks(p.dim) * kChunk;
  const int64_t square = static_cast<int64_t>(p.dim) * p.dim;
  const int64_t wide = static_cast<int64_t>(p.dim) * p.width;
  const auto transposed = [&](const void* all, int64_t size) {
    return static_cast<const Value*>(all) + factor * size;
  };
  const auto at = [&](int row, int column) { return chunk_index<Arithmetic>(n, row, column); };
  const DenseLayers<Value> layers(p, factor);
  DenseRow mine[2];
  read_dense_rows(p, places, rows, factor, mine);
  for (int row = threadIdx.x; row < n; row += blockDim.x) {
    const int64_t from = (rows.first + row) * p.num_factors + factor;
    t.grad_out[row] =
        row < rows.num_valid ? simt::to_float(static_cast<const Value*>(g.grad_out)[from]) : 0.0f;
  }

  project_rows<Arithmetic>(p, layers, rows, mine, t.attended, t.hidden, t.stages);
  normalise<Arithmetic>(t.hidden, stride, p.dim, n, t.normed, t.inverse);
  feed_rows<Arithmetic>(p, layers, rows, t.normed, t.inner, t.stages);
  multiply_rows<Arithmetic>(t.inner, n, layers.ff2_weight, p.dim, p.width, t.stages, p.aligned,
                            [&](int column, int e, float x) {
                              if (column >= p.dim) return;
                              const float fed = x + simt::to_float(layers.ff2_bias[column]);
                              t.hidden[rows.mine(e) * stride + column] +=
                                  dropped(p, mine[e / 2].fed, column, fed);
                            });
  add_column_sums(part + g.part.head_weight, p.dim, n, [&](int row, int column) {
    return t.grad_out[row] * t.hidden[row * stride + column];
  });
  add_column_sums(part + g.part.head_bias, 1, n, [&](int row, int) { return t.grad_out[row]; });

  const auto grad_out_at = [&](int row, int column) {
    return t.grad_out[row] * simt::to_float(layers.head_weight[column]);
  };
  for_my_elements(padded_dim, [&](int column, int e) {
    const int row = rows.mine(e);
    const float grad = column < p.dim ? grad_out_at(row, column) : 0.0f;
    t.grads[at(row, column)] = simt::from_float<Value>(dropped(p, mine[e / 2].fed, column, grad));
  });
  __syncthreads();  // every warp reads all rows of the gradients
  add_column_sums(part + g.part.ff2_bias, p.dim, n,
                  [&](int row, int column) { return simt::to_float(t.grads[at(row, column)]); });
  add_weight_grad<Arithmetic>(part + g.part.ff2_weight, t.grads, p.dim, t.inner, p.width, n);
  // The product's own barriers stand between these reads of the inner features and its writes.
  multiply_rows<Arithmetic>(t.grads, n, transposed(g.ff2_weight_t, wide), p.width, p.dim, t.stages,
                            p.aligned, [&](int column, int e, float x) {
                              Value& to = t.inner[at(rows.mine(e), column)];
                              const bool open = simt::to_float(to) > 0.0f;
                              to = simt::from_float<Value>(open ? x : 0.0f);
                            });
  add_column_sums(part + g.part.ff1_bias, p.width, n,
                  [&](int row, int column) { return simt::to_float(t.inner[at(row, column)]); });
  add_weight_grad<Arithmetic>(part + g.part.ff1_weight, t.inner, p.width, t.normed, p.dim, n);
  multiply_rows<Arithmetic>(t.inner, n, transposed(g.ff1_weight_t, wide), p.dim, p.width, t.stages,
                            p.aligned, [&](int column, int e, float x) {
                              if (column < p.dim) t.hidden[rows.mine(e) * stride + column] = x;
                            });
  pull_through_norm<Arithmetic>(t.hidden, stride, p.dim, n, t.normed, t.inverse, grad_out_at);
  __syncwarp();  // a lane reads what its neighbours have added
  for_my_elements(padded_dim, [&](int column, int e) {
    const DenseRow& row = mine[e / 2];
    float branch = 0.0f;
    if (column < p.dim) {
      const float grad = t.hidden[rows.mine(e) * stride + column];
      branch = dropped(p, row.projected, column, grad);
      if (row.candidate >= 0) {
        g.grad_hidden[(factor * p.num_scores + row.score) * p.dim + column] = grad;
      }
    }
    t.grads[at(rows.mine(e), column)] = simt::from_float<Value>(branch);
  });
  __syncthreads();  // every warp reads all rows of the gradients
  add_weight_grad<Arithmetic>(part + g.part.out_weight, t.grads, p.dim, t.attended, p.dim, n);
  auto* grad_attended = static_cast<Value*>(g.grad_attended) + factor * p.num_scores * p.dim;
  multiply_rows<Arithmetic>(t.grads, n, transposed(g.out_weight_t, square), p.dim, p.dim, t.stages,
                            p.aligned, [&](int column, int e, float x) {
                              const DenseRow& row = mine[e / 2];
                              if (column >= p.dim || row.candidate < 0) return;
                              grad_attended[row.score * p.dim + column] =
                                  simt::from_float<Value>(x);
                            });
}

// Grid: (parts, factors).
template <typename Arithmetic, int kDim>
__global__ void __launch_bounds__(kScoreWarps * 32, 1) factor_score_grad_rows(ScoreGradParams g) {
  using Value = typename Arithmetic::Value;
  const ScoreParams& p = g.forward;
  const int factor = blockIdx.y, warp = threadIdx.x / 32;
  const int num_rows = blockDim.x / 32 * kWarpRows;
  SIMT_SHARED(Value, shared);
  const GradTiles<Arithmetic> tiles(shared, p, num_rows);
  Value* scratch = tiles.scratch + warp * kScoreWarpValues<Arithmetic, kDim, 2>;
  const ScorePlaces places(p);
  float* lse = g.lse + factor * p.num_scores * p.num_heads;
  float* part = g.parts + (static_cast<int64_t>(blockIdx.x) * p.num_factors + factor) * g.part.size;
  for (int64_t i = threadIdx.x; i < g.part.size; i += blockDim.x) part[i] = 0.0f;

  for (int64_t first = static_cast<int64_t>(blockIdx.x) * num_rows; first < p.num_scores;
       first += static_cast<int64_t>(gridDim.x) * num_rows) {
    const int64_t last = min(first + num_rows, p.num_scores);
    const ScoreRows rows{first, num_rows, static_cast<int>(last - first)};
    clear_values(tiles.attended, chunked_values<Arithmetic>(num_rows, p.dim));
    __syncthreads();  // cleared before any warp fills its part; the last tile is done with
    for_each_unit(p, first, last, [&](const ScoreUnit& unit) {
      for (int head = 0; head < p.num_heads; ++head) {
        attend<Arithmetic, kDim>(p, places, unit, factor, head, scratch, tiles.attended, num_rows,
                                 static_cast<int>(unit.first - first), lse);
      }
    });
    __syncthreads();  // all rows are attended, and the attention's tiles may be overwritten
    grad_dense<Arithmetic>(g, places, rows, factor, part, tiles);
    for_each_unit(p, first, last, [&](const ScoreUnit& unit) {
      for (int head = 0; head < p.num_heads; ++head) {
        attend_backward<Arithmetic, kDim>(g, places, unit, factor, head, scratch, tiles.attended,
                                          num_rows, static_cast<int>(unit.first - first));
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
