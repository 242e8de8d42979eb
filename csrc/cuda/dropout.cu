// dropout_residual on the GPU, or on its emulator: checks, buffers and launches.
#include <algorithm>
#include <optional>

#include "checks.h"
#include "cuda/registration.h"
#include "cuda/with_value.h"
#include "kernels/dropout.cuh"

namespace mfgan::gpu {
namespace {

constexpr int64_t kThreads = 256;
// Enough for every processor of the largest GPU to be full several times.
constexpr int64_t kMostBlocks = 1 << 14;

template <typename Value>
void launch(const DropoutParams& p, bool aligned, cudaStream_t stream) {
  constexpr int kWide = kWidest<Value>;
  const bool wide = aligned && p.num_columns % kWide == 0;
  const int64_t parts = p.num_rows * p.num_columns / (wide ? kWide : 1);
  const int64_t blocks = std::min((parts + kThreads - 1) / kThreads, kMostBlocks);
  const dim3 grid(static_cast<unsigned>(blocks)), block(kThreads);
  if (wide) {
    simt::launch(dropout_residual<Value, kWide>, grid, block, 0, stream, p);
  } else {
    simt::launch(dropout_residual<Value, 1>, grid, block, 0, stream, p);
  }
}

Tensor run(const char* op, const Tensor& x, const std::optional<Tensor>& residual,
           const Tensor& rng, double dropout_p, int64_t site) {
  check_dropout_input(op, x, residual);
  check_rng(op, rng, x);
  check_dropout_p(op, dropout_p);
  const ScalarType type = x.scalar_type();
  MFGAN_CHECK(type != ScalarType::Double, op,
              ": x must be float32, bfloat16 or float16 on a GPU, got float64");
  const DeviceGuard guard(x.get_device_index());
  const Tensor from = torch::stable::contiguous(x);
  std::optional<Tensor> add;
  if (residual) add = torch::stable::contiguous(*residual);
  Tensor out = torch::stable::new_empty(x, {x.size(0), x.size(1)});
  if (x.numel() == 0) return out;
  DropoutParams p{};
  p.x = from.const_data_ptr();
  p.residual = add ? add->const_data_ptr() : nullptr;
  p.out = out.mutable_data_ptr();
  p.rng = rng.const_data_ptr<int64_t>();
  p.num_rows = x.size(0);
  p.num_columns = x.size(1);
  p.drop_threshold = drop_threshold(dropout_p);
  p.keep_scale = static_cast<float>(1 / (1 - dropout_p));
  p.site = site;
  const bool aligned = all_aligned({p.x, p.residual, p.out});
  with_value(type, [&](auto value) { launch<decltype(value)>(p, aligned, stream_of(x)); });
  MFGAN_CHECK_LAUNCH();
  return out;
}

Tensor dropout_residual_forward(Tensor x, std::optional<Tensor> residual, Tensor rng,
                                double dropout_p, int64_t site) {
  return run("dropout_residual", x, residual, rng, dropout_p, site);
}

Tensor dropout_residual_backward(Tensor grad_out, Tensor rng, double dropout_p, int64_t site) {
  return run("dropout_residual_backward", grad_out, std::nullopt, rng, dropout_p, site);
}

}  // namespace
}  // namespace mfgan::gpu

MFGAN_DEVICE_OPS(m) {
  m.impl("dropout_residual", TORCH_BOX(&mfgan::gpu::dropout_residual_forward));
  m.impl("dropout_residual_backward", TORCH_BOX(&mfgan::gpu::dropout_residual_backward));
}
