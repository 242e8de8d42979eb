// out = residual + dropout(activation(W norm(x) + b)), token by token.
#pragma once

#include <cstdint>

#include "cpu/element.h"

namespace mfgan::cpu {

enum class Activation : int64_t { kNone, kRelu, kGelu };

// Rows are tokens. E is the tensors' element type, T what is computed with. A norm's weight and
// bias are folded into the weight and the bias of the map: W' = W diag(g), b' = W h + b.
template <typename E>
struct DenseParams {
  using T = Wide<E>;
  const E* x = nullptr;         // (num_rows, num_in)
  const E* residual = nullptr;  // (num_rows, num_out) or none
  E* out = nullptr;             // (num_rows, num_out)
  E* before = nullptr;          // (num_rows, num_out): what the activation is of; none without one
  const T* weight = nullptr;    // forward: W' transposed, (num_in, out_stride); backward (num_out,
                                // in_stride)
  const T* bias = nullptr;      // (num_out,), zero where there is none
  int64_t num_rows = 0;
  int64_t num_in = 0;
  int64_t num_out = 0;
  int64_t in_stride = 0;  // widths up to whole vectors
  int64_t out_stride = 0;
  bool norm = false;
  bool centred = false;  // layer norm; otherwise by the root of the mean square
  double eps = 0;
  Activation activation = Activation::kNone;
  uint32_t drop_threshold = 0;
  double keep_scale = 1;
  int64_t seed = 0;
  int64_t offset = 0;
  int64_t site = 0;
};

// A panel of rows stays in the cache from norm to residual.
constexpr int64_t kDensePanel = 48;
// Widths are padded to this many numbers, a multiple of every instruction set's vectors.
constexpr int64_t kDensePadding = 16;

// Panels first_panel <= panel < last_panel of the forward pass.
template <typename E>
void dense_forward(const DenseParams<E>& params, int64_t first_panel, int64_t last_panel);

// Rows first_row <= row < last_row of grad_x; the gradients of W' (num_out, in_stride) and b'
// (out_stride,) are added to `grad_weight` and `grad_bias`.
template <typename E>
void dense_backward(const DenseParams<E>& params, const E* grad_out, E* grad_x,
                    Wide<E>* grad_weight, Wide<E>* grad_bias, int64_t first_row, int64_t last_row);

}  // namespace mfgan::cpu
