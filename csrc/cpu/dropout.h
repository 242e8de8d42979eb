// residual + dropout(x) over the rows of a matrix.
#pragma once

#include <cstdint>

#include "cpu/element.h"

namespace mfgan::cpu {

struct DropoutParams {
  int64_t num_columns = 0;
  uint32_t drop_threshold = 0;
  double keep_scale = 1;
  int64_t seed = 0;
  int64_t offset = 0;
  int64_t site = 0;
};

// Rows first_row <= row < last_row of out = residual + mask * keep_scale * x; all contiguous,
// residual may be null.
template <typename T>
void dropout_residual_rows(const DropoutParams& params, const T* x, const T* residual, T* out,
                           int64_t first_row, int64_t last_row);

}  // namespace mfgan::cpu
