// Pieces of the gradient of factor_score's dense layers.
#pragma once

#include "kernels/factor_score_forward.cuh"

namespace mfgan::gpu {

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

}  // namespace mfgan::gpu
