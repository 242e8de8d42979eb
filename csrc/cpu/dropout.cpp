#include "cpu/dropout.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <optional>

#include "checks.h"
#include "cpu/dispatch.h"
#include "rng.h"

namespace mfgan::cpu {
namespace {

constexpr int64_t kElementsPerThread = 16384;

Tensor run(const char* op, const Tensor& x, const std::optional<Tensor>& residual,
           const Tensor& rng, double dropout_p, int64_t site) {
  check_dropout_input(op, x, residual);
  check_rng(op, rng, x);
  check_dropout_p(op, dropout_p);
  const Tensor from = torch::stable::contiguous(x);
  std::optional<Tensor> add;
  if (residual) add = torch::stable::contiguous(*residual);
  Tensor out = torch::stable::new_empty(x, {x.size(0), x.size(1)});
  DropoutParams p;
  p.num_columns = x.size(1);
  p.drop_threshold = drop_threshold(dropout_p);
  p.keep_scale = 1 / (1 - dropout_p);
  p.seed = rng.const_data_ptr<int64_t>()[0];
  p.offset = rng.const_data_ptr<int64_t>()[1];
  p.site = site;
  const int64_t grain = std::max<int64_t>(1, kElementsPerThread / std::max<int64_t>(1, x.size(1)));
  with_element_type(x.scalar_type(), [&](auto type) {
    using T = typename decltype(type)::type;
    const T* data = static_cast<const T*>(from.const_data_ptr());
    const T* data_add = add ? static_cast<const T*>(add->const_data_ptr()) : nullptr;
    T* to = static_cast<T*>(out.mutable_data_ptr());
    torch::stable::parallel_for(0, x.size(0), grain, [&](int64_t first, int64_t last) {
      dropout_residual_rows<T>(p, data, data_add, to, first, last);
    });
  });
  return out;
}

Tensor dropout_residual(Tensor x, std::optional<Tensor> residual, Tensor rng, double dropout_p,
                        int64_t site) {
  return run("dropout_residual", x, residual, rng, dropout_p, site);
}

Tensor dropout_residual_backward(Tensor grad_out, Tensor rng, double dropout_p, int64_t site) {
  return run("dropout_residual_backward", grad_out, std::nullopt, rng, dropout_p, site);
}

STABLE_TORCH_LIBRARY_IMPL(mfgan, CPU, m) {
  m.impl("dropout_residual", TORCH_BOX(&dropout_residual));
  m.impl("dropout_residual_backward", TORCH_BOX(&dropout_residual_backward));
}

}  // namespace
}  // namespace mfgan::cpu
