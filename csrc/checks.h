// Input checks shared by the CPU and CUDA ops: one wording, `where: rule, got value`. They throw
// std::invalid_argument, which reaches Python as ValueError.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>

namespace mfgan {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <typename... Parts>
[[noreturn]] inline void fail(const Parts&... parts) {
  std::ostringstream message;
  ((message << parts), ...);
  throw std::invalid_argument(message.str());
}

#define MFGAN_CHECK(condition, ...) \
  if (!(condition)) ::mfgan::fail(__VA_ARGS__)

// Written as Python writes a tuple.
inline std::string shape_of(const Tensor& x) {
  std::ostringstream text;
  text << '(';
  for (int64_t i = 0; i < x.dim(); ++i) text << (i ? ", " : "") << x.size(i);
  text << (x.dim() == 1 ? ",)" : ")");
  return text.str();
}

inline bool same_shape(const Tensor& a, const Tensor& b) {
  if (a.dim() != b.dim()) return false;
  for (int64_t i = 0; i < a.dim(); ++i)
    if (a.size(i) != b.size(i)) return false;
  return true;
}

inline bool is_floating(ScalarType type) {
  return type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
         type == ScalarType::BFloat16;
}

// float32 for half types, else the type itself: what sums and statistics are kept in.
inline ScalarType wide_type(ScalarType type) {
  return type == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline void check_same_device(const char* op, const char* name, const Tensor& x,
                              const Tensor& like) {
  MFGAN_CHECK(x.is_cuda() == like.is_cuda() && x.get_device_index() == like.get_device_index(), op,
              ": all tensors must be on one device, got ", name, " on another");
}

inline void check_rng(const char* op, const Tensor& rng, const Tensor& like) {
  MFGAN_CHECK(rng.dim() == 1 && rng.size(0) == 2, op, ": rng must be (2,), got ", shape_of(rng));
  MFGAN_CHECK(rng.scalar_type() == ScalarType::Long, op, ": rng must be int64");
  MFGAN_CHECK(rng.is_contiguous(), op, ": rng must be contiguous");
  check_same_device(op, "rng", rng, like);
}

inline void check_dropout_p(const char* op, double dropout_p) {
  MFGAN_CHECK(dropout_p >= 0 && dropout_p < 1, op, ": dropout_p must be in [0, 1), got ",
              dropout_p);
}

// x and residual (num_rows, num_columns) of one floating type.
inline void check_dropout_input(const char* op, const Tensor& x,
                                const std::optional<Tensor>& residual) {
  MFGAN_CHECK(x.dim() == 2, op, ": x must be (num_rows, num_columns), got ", shape_of(x));
  MFGAN_CHECK(is_floating(x.scalar_type()), op,
              ": x must be float32, float64, bfloat16 or float16");
  if (!residual) return;
  MFGAN_CHECK(same_shape(x, *residual), op, ": residual must have the shape of x ", shape_of(x),
              ", got ", shape_of(*residual));
  MFGAN_CHECK(residual->scalar_type() == x.scalar_type(), op,
              ": residual must have the dtype of x");
  check_same_device(op, "residual", *residual, x);
}

// The tensor of bounds alone; what they say is check_session_bounds'.
inline void check_cu_seqlens(const char* op, const Tensor& cu_seqlens, const Tensor& like) {
  MFGAN_CHECK(cu_seqlens.dim() == 1 && cu_seqlens.size(0) >= 1, op,
              ": cu_seqlens must be (num_sessions + 1,), got ", shape_of(cu_seqlens));
  MFGAN_CHECK(cu_seqlens.scalar_type() == ScalarType::Int, op, ": cu_seqlens must be int32");
  MFGAN_CHECK(cu_seqlens.is_contiguous(), op, ": cu_seqlens must be contiguous");
  check_same_device(op, "cu_seqlens", cu_seqlens, like);
}

// q, k, v (total_tokens, num_heads, head_dim) of one floating type, cu_seqlens (num_sessions + 1,).
inline void check_packed_qkv(const char* op, const Tensor& q, const Tensor& k, const Tensor& v,
                             const Tensor& cu_seqlens) {
  MFGAN_CHECK(q.dim() == 3, op, ": q must be (total_tokens, num_heads, head_dim), got ",
              shape_of(q));
  MFGAN_CHECK(q.size(1) > 0 && q.size(2) > 0, op, ": num_heads and head_dim must be positive, got ",
              shape_of(q));
  MFGAN_CHECK(same_shape(q, k) && same_shape(q, v), op, ": k and v must have the shape of q ",
              shape_of(q), ", got ", shape_of(k), " and ", shape_of(v));
  MFGAN_CHECK(is_floating(q.scalar_type()), op,
              ": q must be float32, float64, bfloat16 or float16");
  MFGAN_CHECK(k.scalar_type() == q.scalar_type() && v.scalar_type() == q.scalar_type(), op,
              ": q, k and v must share one dtype");
  check_cu_seqlens(op, cu_seqlens, q);
  check_same_device(op, "k", k, q);
  check_same_device(op, "v", v, q);
}

// x (total_tokens, width) and taps (num_taps, width) of one floating type.
inline void check_convolution(const char* op, const Tensor& x, const Tensor& taps,
                              const Tensor& cu_seqlens) {
  MFGAN_CHECK(x.dim() == 2, op, ": x must be (total_tokens, width), got ", shape_of(x));
  MFGAN_CHECK(is_floating(x.scalar_type()), op,
              ": x must be float32, float64, bfloat16 or float16");
  MFGAN_CHECK(taps.dim() == 2 && taps.size(0) > 0 && taps.size(1) == x.size(1), op,
              ": taps must be (num_taps, width) with width ", x.size(1), ", got ", shape_of(taps));
  MFGAN_CHECK(taps.scalar_type() == x.scalar_type(), op, ": taps must have the dtype of x");
  check_same_device(op, "taps", taps, x);
  check_cu_seqlens(op, cu_seqlens, x);
}

inline void check_convolution_grad(const char* op, const Tensor& grad_out, const Tensor& x) {
  MFGAN_CHECK(same_shape(grad_out, x) && grad_out.scalar_type() == x.scalar_type(), op,
              ": grad_out must be as x, got ", shape_of(grad_out));
  check_same_device(op, "grad_out", grad_out, x);
}

inline void check_distance_bias(const char* op, const Tensor& bias, const Tensor& q) {
  MFGAN_CHECK(bias.dim() == 2 && bias.size(0) == q.size(1) && bias.size(1) > 0, op,
              ": distance_bias must be (num_heads, num_distances) with num_heads ", q.size(1),
              ", got ", shape_of(bias));
  MFGAN_CHECK(bias.scalar_type() == q.scalar_type(), op,
              ": distance_bias must have the dtype of q");
  check_same_device(op, "distance_bias", bias, q);
}

// What forward left for backward.
inline void check_saved_results(const char* op, const Tensor& grad_out, const Tensor& out,
                                const Tensor& lse, const Tensor& q) {
  MFGAN_CHECK(same_shape(grad_out, q) && same_shape(out, q), op,
              ": grad_out and out must have the shape of q ", shape_of(q), ", got ",
              shape_of(grad_out), " and ", shape_of(out));
  MFGAN_CHECK(grad_out.scalar_type() == q.scalar_type() && out.scalar_type() == q.scalar_type(), op,
              ": grad_out and out must have the dtype of q");
  MFGAN_CHECK(out.is_contiguous(), op, ": out must be contiguous");
  MFGAN_CHECK(lse.dim() == 2 && lse.size(0) == q.size(1) && lse.size(1) == q.size(0), op,
              ": lse must be (num_heads, total_tokens), got ", shape_of(lse));
  MFGAN_CHECK(lse.scalar_type() == wide_type(q.scalar_type()) && lse.is_contiguous(), op,
              ": lse must be contiguous and float32 or wider");
  check_same_device(op, "grad_out", grad_out, q);
  check_same_device(op, "out", out, q);
  check_same_device(op, "lse", lse, q);
}

// Bounds of ragged rows are read as addresses: one that does not rise would reach foreign memory.
template <typename T>
void check_rising(const char* op, const char* name, const T* bounds, int64_t count, int64_t total) {
  bool rises = bounds[0] == 0 && bounds[count] == total;
  for (int64_t i = 0; i < count; ++i) rises = rises && bounds[i] <= bounds[i + 1];
  MFGAN_CHECK(rises, op, ": ", name, " must rise from 0 to ", total);
}

template <typename T>
void check_between(const char* op, const char* name, const T* values, int64_t count, int64_t low,
                   int64_t high) {
  for (int64_t i = 0; i < count; ++i)
    MFGAN_CHECK(values[i] >= low && values[i] <= high, op, ": ", name, " must be from ", low,
                " to ", high, ", got ", values[i]);
}

// What the bounds say, read where they lie in host memory.
inline void check_session_bounds(const char* op, const int32_t* bounds, int64_t num_sessions,
                                 int64_t total_tokens, int64_t max_seqlen) {
  MFGAN_CHECK(bounds[0] == 0, op, ": cu_seqlens must start at 0, got ", bounds[0]);
  for (int64_t i = 0; i < num_sessions; ++i) {
    const int64_t length = static_cast<int64_t>(bounds[i + 1]) - bounds[i];
    MFGAN_CHECK(length >= 0, op, ": cu_seqlens must never decrease, got ", bounds[i], " before ",
                bounds[i + 1]);
    MFGAN_CHECK(length <= max_seqlen, op, ": sessions must be no longer than max_seqlen ",
                max_seqlen, ", got ", length);
  }
  MFGAN_CHECK(bounds[num_sessions] == total_tokens, op, ": cu_seqlens must end at total_tokens ",
              total_tokens, ", got ", bounds[num_sessions]);
}

}  // namespace mfgan
