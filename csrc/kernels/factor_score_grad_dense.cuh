// Gradients of factor_score's dense layers for a block's tile of rows. What belongs to the weights
// is added to this block's part, what belongs to a row is written out.
#pragma once

#include "kernels/factor_score_grad_parts.cuh"

namespace mfgan::gpu {

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

// One tile of rows of one factor on its way through the dense layers and back.
template <typename Arithmetic>
struct DenseGradient {
  using Value = typename Arithmetic::Value;
  const ScoreGradParams& g;
  const ScoreParams& p;
  const GradTiles<Arithmetic>& t;
  const ScoreRows& rows;
  const int factor, stride, padded_dim;
  float* const part;
  const DenseLayers<Value> layers;
  DenseRow mine[2];

  __device__ __forceinline__ DenseGradient(const ScoreGradParams& grad,
                                           const GradTiles<Arithmetic>& tiles, const ScoreRows& of,
                                           int of_factor, float* to)
      : g(grad),
        p(grad.forward),
        t(tiles),
        rows(of),
        factor(of_factor),
        stride(wide_stride(p.dim)),
        padded_dim(num_chunks(p.dim) * kChunk),
        part(to),
        layers(p, of_factor) {
    read_dense_rows(p, rows, factor, mine);
  }

  __device__ __forceinline__ int at(int row, int column) const {
    return chunk_index<Arithmetic>(rows.num_rows, row, column);
  }
  __device__ __forceinline__ const Value* of_factor(const void* all, int columns) const {
    return static_cast<const Value*>(all) + static_cast<int64_t>(factor) * p.dim * columns;
  }
  __device__ __forceinline__ float grad_out_at(int row, int column) const {
    return t.grad_out[row] * simt::to_float(layers.head_weight[column]);
  }

  // Leaves hidden, the norm's rows and the inner features, and adds the head's gradients.
  __device__ __forceinline__ void compute_again() {
    const int n = rows.num_rows;
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
  }

  // Turns the inner features into their gradients, and `hidden` into those of the rows before the
  // norm.
  __device__ __forceinline__ void pull_through_feed_forward() {
    const int n = rows.num_rows;
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
    multiply_rows<Arithmetic>(t.grads, n, of_factor(g.ff2_weight_t, p.width), p.width, p.dim,
                              t.stages, p.aligned, [&](int column, int e, float x) {
                                Value& to = t.inner[at(rows.mine(e), column)];
                                const bool open = simt::to_float(to) > 0.0f;
                                to = simt::from_float<Value>(open ? x : 0.0f);
                              });
    add_column_sums(part + g.part.ff1_bias, p.width, n,
                    [&](int row, int column) { return simt::to_float(t.inner[at(row, column)]); });
    add_weight_grad<Arithmetic>(part + g.part.ff1_weight, t.inner, p.width, t.normed, p.dim, n);
    multiply_rows<Arithmetic>(t.inner, n, of_factor(g.ff1_weight_t, p.width), p.dim, p.width,
                              t.stages, p.aligned, [&](int column, int e, float x) {
                                if (column < p.dim) t.hidden[rows.mine(e) * stride + column] = x;
                              });
    pull_through_norm<Arithmetic>(t.hidden, stride, p.dim, n, t.normed, t.inverse,
                                  [&](int row, int column) { return grad_out_at(row, column); });
    __syncwarp();  // a lane reads what its neighbours have added
  }

  // Writes grad_hidden and grad_attended.
  __device__ __forceinline__ void pull_through_projection() {
    const int n = rows.num_rows;
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
    multiply_rows<Arithmetic>(t.grads, n, of_factor(g.out_weight_t, p.dim), p.dim, p.dim, t.stages,
                              p.aligned, [&](int column, int e, float x) {
                                const DenseRow& row = mine[e / 2];
                                if (column >= p.dim || row.candidate < 0) return;
                                grad_attended[row.score * p.dim + column] =
                                    simt::from_float<Value>(x);
                              });
  }
};

// From attended rows to the gradients of all dense weights, grad_hidden and grad_attended.
template <typename Arithmetic>
__device__ __forceinline__ void grad_dense(const ScoreGradParams& g, const ScoreRows& rows,
                                           int factor, float* part,
                                           const GradTiles<Arithmetic>& tiles) {
  DenseGradient<Arithmetic> gradient(g, tiles, rows, factor, part);
  gradient.compute_again();
  gradient.pull_through_feed_forward();
  gradient.pull_through_projection();
}

}  // namespace mfgan::gpu
