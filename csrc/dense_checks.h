// Input checks of the dense op.
#pragma once

#include "checks.h"

namespace mfgan {

// Sizes and options that a call of `dense` or of its gradient names.
struct DenseInputs {
  Tensor x;
  Tensor weight;
  std::optional<Tensor> bias;
  std::optional<Tensor> norm_weight;
  std::optional<Tensor> norm_bias;
  std::optional<Tensor> rng;
};

inline void check_dense_vector(const char* op, const char* name, const std::optional<Tensor>& y,
                               int64_t size, const Tensor& x) {
  if (!y) return;
  MFGAN_CHECK(y->dim() == 1 && y->size(0) == size, op, ": ", name, " must be (", size, ",), got ",
              shape_of(*y));
  MFGAN_CHECK(y->scalar_type() == x.scalar_type(), op, ": ", name, " must have the dtype of x");
  check_same_device(op, name, *y, x);
}

inline void check_dense(const char* op, const DenseInputs& in, double eps, int64_t activation,
                        double dropout_p) {
  MFGAN_CHECK(in.x.dim() == 2, op, ": x must be (num_rows, num_in), got ", shape_of(in.x));
  MFGAN_CHECK(is_floating(in.x.scalar_type()), op,
              ": x must be float32, float64, bfloat16 or float16");
  MFGAN_CHECK(in.weight.dim() == 2 && in.weight.size(1) == in.x.size(1) && in.weight.size(0) > 0 &&
                  in.x.size(1) > 0,
              op, ": weight must be (num_out, num_in) with num_in ", in.x.size(1), ", got ",
              shape_of(in.weight));
  MFGAN_CHECK(in.weight.scalar_type() == in.x.scalar_type(), op,
              ": weight must have the dtype of x");
  check_same_device(op, "weight", in.weight, in.x);
  check_dense_vector(op, "bias", in.bias, in.weight.size(0), in.x);
  check_dense_vector(op, "norm_weight", in.norm_weight, in.x.size(1), in.x);
  check_dense_vector(op, "norm_bias", in.norm_bias, in.x.size(1), in.x);
  MFGAN_CHECK(in.norm_weight || !in.norm_bias, op, ": norm_bias must come with norm_weight");
  MFGAN_CHECK(eps >= 0, op, ": eps must not be negative, got ", eps);
  MFGAN_CHECK(activation >= 0 && activation <= 2, op, ": activation must be 0, 1 or 2, got ",
              activation);
  check_dropout_p(op, dropout_p);
  if (in.rng) check_rng(op, *in.rng, in.x);
}

inline void check_dense_rows(const char* op, const char* name, const Tensor& y,
                             const DenseInputs& in) {
  MFGAN_CHECK(y.dim() == 2 && y.size(0) == in.x.size(0) && y.size(1) == in.weight.size(0), op, ": ",
              name, " must be (num_rows, num_out), got ", shape_of(y));
  MFGAN_CHECK(y.scalar_type() == in.x.scalar_type(), op, ": ", name, " must have the dtype of x");
  check_same_device(op, name, y, in.x);
}

}  // namespace mfgan
