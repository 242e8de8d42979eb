#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "checks.h"
#include "cpu/dispatch.h"

namespace mfgan::cpu {
namespace {

constexpr int64_t kSetsPerThread = 2048;

void check_displays(const char* op, const Tensor& utilities, const Tensor& offsets) {
  MFGAN_CHECK(utilities.dim() == 1, op, ": utilities must be (num_rows,), got ",
              shape_of(utilities));
  MFGAN_CHECK(is_floating(utilities.scalar_type()), op,
              ": utilities must be float32, float64, bfloat16 or float16");
  MFGAN_CHECK(offsets.dim() == 1 && offsets.size(0) >= 1, op,
              ": offsets must be (num_sets + 1,), got ", shape_of(offsets));
  MFGAN_CHECK(offsets.scalar_type() == ScalarType::Long, op, ": offsets must be int64");
  check_same_device(op, "offsets", offsets, utilities);
}

// Read before anything is computed from them: a wrong bound would read foreign memory.
void check_bounds(const char* op, const int64_t* bounds, int64_t num_sets, int64_t num_rows) {
  bool rises = bounds[0] == 0 && bounds[num_sets] == num_rows;
  for (int64_t i = 0; i < num_sets; ++i) rises = rises && bounds[i] <= bounds[i + 1];
  MFGAN_CHECK(rises, op, ": offsets must rise from 0 to ", num_rows);
}

template <typename T>
Wide<T> logsumexp(const T* utilities, int64_t first, int64_t last, bool no_click) {
  using W = Wide<T>;
  constexpr W kNothing = -std::numeric_limits<W>::infinity();
  W top = no_click ? W(0) : kNothing;
  for (int64_t row = first; row < last; ++row) {
    const W value = load(utilities[row]);
    if (std::isnan(value)) return value;
    top = std::max(top, value);
  }
  if (std::isinf(top)) return top;
  W total = no_click ? std::exp(-top) : W(0);
  for (int64_t row = first; row < last; ++row) total += std::exp(load(utilities[row]) - top);
  return top + std::log(total);
}

Tensor choice_logsumexp(Tensor utilities, Tensor offsets, bool no_click) {
  const char* op = "choice_logsumexp";
  check_displays(op, utilities, offsets);
  const Tensor from = torch::stable::contiguous(utilities);
  const Tensor bounds_of = torch::stable::contiguous(offsets);
  const int64_t* bounds = bounds_of.const_data_ptr<int64_t>();
  const int64_t num_sets = offsets.size(0) - 1;
  check_bounds(op, bounds, num_sets, utilities.size(0));
  Tensor out = torch::stable::new_empty(from, {num_sets}, wide_type(utilities.scalar_type()));
  with_element_type(utilities.scalar_type(), [&](auto type) {
    using T = typename decltype(type)::type;
    const T* data = static_cast<const T*>(from.const_data_ptr());
    Wide<T>* to = static_cast<Wide<T>*>(out.mutable_data_ptr());
    torch::stable::parallel_for(0, num_sets, kSetsPerThread, [&](int64_t first, int64_t last) {
      for (int64_t set = first; set < last; ++set)
        to[set] = logsumexp(data, bounds[set], bounds[set + 1], no_click);
    });
  });
  return out;
}

Tensor choice_logsumexp_backward(Tensor grad_out, Tensor utilities, Tensor offsets, Tensor lse) {
  const char* op = "choice_logsumexp_backward";
  check_displays(op, utilities, offsets);
  const int64_t num_sets = offsets.size(0) - 1;
  for (const Tensor* saved : {&grad_out, &lse}) {
    MFGAN_CHECK(saved->dim() == 1 && saved->size(0) == num_sets, op,
                ": grad_out and lse must be (num_sets,) with num_sets ", num_sets, ", got ",
                shape_of(*saved));
    MFGAN_CHECK(saved->scalar_type() == wide_type(utilities.scalar_type()), op,
                ": grad_out and lse must be float32 or wider");
    check_same_device(op, "grad_out and lse", *saved, utilities);
  }
  const Tensor from = torch::stable::contiguous(utilities);
  const Tensor bounds_of = torch::stable::contiguous(offsets);
  const Tensor grads = torch::stable::contiguous(grad_out);
  const Tensor totals = torch::stable::contiguous(lse);
  const int64_t* bounds = bounds_of.const_data_ptr<int64_t>();
  check_bounds(op, bounds, num_sets, utilities.size(0));
  Tensor out = torch::stable::new_empty(from, {utilities.size(0)});
  with_element_type(utilities.scalar_type(), [&](auto type) {
    using T = typename decltype(type)::type;
    using W = Wide<T>;
    const T* data = static_cast<const T*>(from.const_data_ptr());
    const W* grad = static_cast<const W*>(grads.const_data_ptr());
    const W* total = static_cast<const W*>(totals.const_data_ptr());
    T* to = static_cast<T*>(out.mutable_data_ptr());
    torch::stable::parallel_for(0, num_sets, kSetsPerThread, [&](int64_t first, int64_t last) {
      for (int64_t set = first; set < last; ++set)
        for (int64_t row = bounds[set]; row < bounds[set + 1]; ++row)
          store(to + row, grad[set] * std::exp(load(data[row]) - total[set]));
    });
  });
  return out;
}

STABLE_TORCH_LIBRARY_IMPL(mfgan, CPU, m) {
  m.impl("choice_logsumexp", TORCH_BOX(&choice_logsumexp));
  m.impl("choice_logsumexp_backward", TORCH_BOX(&choice_logsumexp_backward));
}

}  // namespace
}  // namespace mfgan::cpu
