// causal_convolution on the GPU, or on its emulator: checks, buffers and launches.
#include <tuple>

#include "checks.h"
#include "cuda/convolution_plan.cuh"
#include "cuda/registration.h"
#include "cuda/with_value.h"

namespace mfgan::gpu {
namespace {

constexpr int64_t kMaxTokens = INT32_MAX / 2;  // sums of tokens and lags are ints
constexpr int64_t kMaxValues = INT32_MAX;      // of the taps' gradient, of which each has a thread
constexpr int64_t kMaxTaps = 65535 * kGroupLags;  // a grid's third dimension holds their groups

void check_on_gpu(const char* op, const Tensor& x, const Tensor& taps, const Tensor& cu_seqlens) {
  check_convolution(op, x, taps, cu_seqlens);
  MFGAN_CHECK(x.scalar_type() != ScalarType::Double, op,
              ": x must be float32, bfloat16 or float16 on a GPU, got float64");
  MFGAN_CHECK(x.size(0) <= kMaxTokens, op, ": total_tokens must be at most ", kMaxTokens,
              " on a GPU, got ", x.size(0));
  MFGAN_CHECK(taps.numel() <= kMaxValues && taps.size(0) <= kMaxTaps, op, ": taps must be at most ",
              kMaxTaps, " and ", kMaxValues, " values on a GPU, got ", shape_of(taps));
  MFGAN_CHECK(x.size(0) == 0 || cu_seqlens.size(0) > 1, op,
              ": cu_seqlens must end at total_tokens ", x.size(0), ", got no session");
}

ConvolutionParams params_of(const Tensor& x, const Tensor& taps, const Tensor& cu_seqlens,
                            Tensor& out) {
  ConvolutionParams p{};
  p.x = x.const_data_ptr();
  p.taps = taps.const_data_ptr();
  p.cu_seqlens = cu_seqlens.const_data_ptr<int32_t>();
  p.out = out.mutable_data_ptr();
  p.total_tokens = static_cast<int>(x.size(0));
  p.num_sessions = static_cast<int>(cu_seqlens.size(0) - 1);
  p.num_taps = static_cast<int>(taps.size(0));
  p.width = static_cast<int>(x.size(1));
  return p;
}

template <int kSign>
void run(const ConvolutionParams& p, ScalarType type, cudaStream_t stream) {
  const bool aligned = all_aligned({p.x, p.taps, p.out});
  with_value(type,
             [&](auto value) { launch_convolve<decltype(value), kSign>(p, aligned, stream); });
}

Tensor causal_convolution(Tensor x, Tensor taps, Tensor cu_seqlens) {
  check_on_gpu("causal_convolution", x, taps, cu_seqlens);
  const DeviceGuard guard(x.get_device_index());
  const Tensor from = torch::stable::contiguous(x), weights = torch::stable::contiguous(taps);
  Tensor out = torch::stable::new_empty(x, {x.size(0), x.size(1)});
  if (x.numel() == 0) return out;
  run<1>(params_of(from, weights, cu_seqlens, out), x.scalar_type(), stream_of(x));
  MFGAN_CHECK_LAUNCH();
  return out;
}

std::tuple<Tensor, Tensor> causal_convolution_backward(Tensor grad_out, Tensor x, Tensor taps,
                                                       Tensor cu_seqlens) {
  const char* op = "causal_convolution_backward";
  check_on_gpu(op, x, taps, cu_seqlens);
  check_convolution_grad(op, grad_out, x);
  const DeviceGuard guard(x.get_device_index());
  const int64_t tokens = x.size(0), width = x.size(1), num_taps = taps.size(0);
  const Tensor grad = torch::stable::contiguous(grad_out), from = torch::stable::contiguous(x);
  const Tensor weights = torch::stable::contiguous(taps);
  Tensor grad_x = torch::stable::new_empty(x, {tokens, width});
  Tensor sums = torch::stable::new_empty(x, {num_taps, width}, ScalarType::Float);
  if (x.numel() == 0) {
    torch::stable::zero_(sums);
    return {grad_x, torch::stable::to(sums, x.scalar_type())};
  }
  const ConvolutionParams p = params_of(grad, weights, cu_seqlens, grad_x);
  run<-1>(p, x.scalar_type(), stream_of(x));
  Tensor parts = torch::stable::new_empty(x, {num_chunks_of(p.total_tokens), num_taps, width},
                                          ScalarType::Float);
  TapGradParams g{};
  g.x = from.const_data_ptr();
  g.grad = p.x;
  g.cu_seqlens = p.cu_seqlens;
  g.parts = parts.mutable_data_ptr<float>();
  g.total_tokens = p.total_tokens;
  g.chunk_tokens = chunk_tokens_of(p.total_tokens);
  g.num_sessions = p.num_sessions;
  g.num_taps = p.num_taps;
  g.width = p.width;
  with_value(x.scalar_type(), [&](auto value) {
    launch_tap_grads<decltype(value)>(g, sums.mutable_data_ptr<float>(), stream_of(x));
  });
  MFGAN_CHECK_LAUNCH();
  return {grad_x, torch::stable::to(sums, x.scalar_type())};
}

}  // namespace
}  // namespace mfgan::gpu

MFGAN_DEVICE_OPS(m) {
  m.impl("causal_convolution", TORCH_BOX(&mfgan::gpu::causal_convolution));
  m.impl("causal_convolution_backward", TORCH_BOX(&mfgan::gpu::causal_convolution_backward));
}
