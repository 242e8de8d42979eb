// residual + dropout(x) over the rows of a matrix, in one pass over memory.
#pragma once

#include <cstdint>

#include "kernels/wide_values.h"
#include "rng.h"
#include "simt/simt.h"

namespace mfgan::gpu {

struct DropoutParams {
  const void* x;
  const void* residual;  // or null
  void* out;
  const int64_t* rng;  // (2,) seed and offset
  int64_t num_rows, num_columns;
  uint32_t drop_threshold;
  float keep_scale;  // 1 / (1 - dropout_p)
  int64_t site;
};

// kWidth neighbours of one row are a thread's; the grid may be capped.
template <typename Value, int kWidth>
__global__ void dropout_residual(DropoutParams p) {
  using Part = WideValues<Value, kWidth>;
  const uint64_t place = place_key(p.rng[0], p.rng[1], p.site);
  const int64_t parts_of_row = p.num_columns / kWidth, num_parts = p.num_rows * parts_of_row;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < num_parts;
       i += step) {
    const int64_t row = i / parts_of_row;
    const auto column = static_cast<uint32_t>((i - row * parts_of_row) * kWidth);
    const RowKey key = row_key(place, row);
    Part part = reinterpret_cast<const Part*>(p.x)[i], add;
    if (p.residual) add = reinterpret_cast<const Part*>(p.residual)[i];
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      const bool kept = keeps(key, column + j, p.drop_threshold);
      float value = kept ? simt::to_float(part.x[j]) * p.keep_scale : 0.0f;
      if (p.residual) value += simt::to_float(add.x[j]);
      part.x[j] = simt::from_float<Value>(value);
    }
    reinterpret_cast<Part*>(p.out)[i] = part;
  }
}

}  // namespace mfgan::gpu
