#include "cpu/softmax_choices.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <tuple>

#include "checks.h"
#include "cpu/dispatch.h"

namespace mfgan::cpu {
namespace {

constexpr const char* kOp = "softmax_choices";
constexpr int64_t kElementsPerThread = 16384;

std::tuple<Tensor, Tensor> softmax_choices(Tensor logits, Tensor choices) {
  MFGAN_CHECK(logits.dim() == 2 && logits.size(1) > 0, kOp,
              ": logits must be (num_rows, num_columns) with a column, got ", shape_of(logits));
  MFGAN_CHECK(is_floating(logits.scalar_type()), kOp,
              ": logits must be float32, float64, bfloat16 or float16");
  MFGAN_CHECK(logits.stride(1) == 1, kOp, ": rows of logits must be contiguous");
  const int64_t rows = logits.size(0), columns = logits.size(1);
  MFGAN_CHECK(choices.dim() == 2 && choices.size(0) == rows, kOp, ": choices must be (", rows,
              ", num_choices), got ", shape_of(choices));
  MFGAN_CHECK(choices.scalar_type() == ScalarType::Long, kOp, ": choices must be int64");
  check_same_device(kOp, "choices", choices, logits);
  const Tensor chosen = torch::stable::contiguous(choices);
  const int64_t each = choices.size(1);
  check_between(kOp, "choices", chosen.const_data_ptr<int64_t>(), rows * each, 0, columns - 1);
  const ScalarType wide = wide_type(logits.scalar_type());
  Tensor log_probs = torch::stable::new_empty(logits, {rows, each}, wide);
  Tensor entropy = torch::stable::new_empty(logits, {rows}, wide);
  const int64_t grain = std::max<int64_t>(1, kElementsPerThread / columns);
  with_element_type(logits.scalar_type(), [&](auto type) {
    using T = typename decltype(type)::type;
    const SoftmaxChoices<T> p{static_cast<T*>(logits.mutable_data_ptr()),
                              logits.stride(0),
                              columns,
                              chosen.const_data_ptr<int64_t>(),
                              each,
                              static_cast<Wide<T>*>(log_probs.mutable_data_ptr()),
                              static_cast<Wide<T>*>(entropy.mutable_data_ptr())};
    torch::stable::parallel_for(0, rows, grain, [&](int64_t first, int64_t last) {
      softmax_choices_of_rows<T>(p, first, last);
    });
  });
  return {log_probs, entropy};
}

STABLE_TORCH_LIBRARY_IMPL(mfgan, CPU, m) { m.impl("softmax_choices", TORCH_BOX(&softmax_choices)); }

}  // namespace
}  // namespace mfgan::cpu
