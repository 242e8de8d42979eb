// varlen_attention on the GPU, or on its emulator: checks, buffers and launches.
#include <algorithm>
#include <optional>
#include <tuple>

#include "checks.h"
#include "cuda/attention_arithmetic.h"
#include "cuda/registration.h"
#include "cuda/with_arithmetic.h"
#include "kernels/sum_parts.cuh"
#include "rng.h"

namespace mfgan::gpu {
namespace {

constexpr int64_t kMaxHeadDim = 128;
constexpr int64_t kMaxHeads = 65535;             // the second dimension of a grid
constexpr int64_t kMaxTokens = INT32_MAX - 256;  // a tile may reach past the last one
constexpr int kWidestCopy = 16;
constexpr unsigned kReduceThreads = 128;

// Rows of heads one behind another; only the step from token to token is free.
Tensor with_packed_heads(const Tensor& x) {
  const bool packed =
      (x.stride(2) == 1 || x.size(2) == 1) && (x.stride(1) == x.size(2) || x.size(1) == 1);
  return packed ? x : torch::stable::contiguous(x);
}

// The widest copy, 16, 8 or 4 bytes, at which every row of every head begins; less than 4: none.
int load_bytes(const Tensor& x, int64_t head_dim) {
  const auto size = static_cast<int64_t>(x.element_size());
  const auto all = static_cast<int64_t>(reinterpret_cast<uintptr_t>(x.const_data_ptr())) |
                   x.stride(0) * size | head_dim * size | kWidestCopy;
  return static_cast<int>(all & -all);
}

struct Inputs {
  Tensor q, k, v;
  std::optional<Tensor> bias;  // float32
  AttentionParams params{};
};

Inputs read_inputs(const char* op, const Tensor& q, const Tensor& k, const Tensor& v,
                   const Tensor& cu_seqlens, const std::optional<Tensor>& bias,
                   const std::optional<Tensor>& rng, bool causal, double scale, double dropout_p,
                   int64_t site) {
  check_packed_qkv(op, q, k, v, cu_seqlens);
  check_dropout_p(op, dropout_p);
  MFGAN_CHECK(q.scalar_type() != ScalarType::Double, op,
              ": q must be float32, bfloat16 or float16 on a GPU, got float64");
  MFGAN_CHECK(q.size(2) <= kMaxHeadDim, op, ": head_dim must be at most ", kMaxHeadDim,
              " on a GPU, got ", q.size(2));
  MFGAN_CHECK(q.size(1) <= kMaxHeads, op, ": num_heads must be at most ", kMaxHeads,
              " on a GPU, got ", q.size(1));
  MFGAN_CHECK(q.size(0) <= kMaxTokens, op, ": total_tokens must be at most ", kMaxTokens,
              " on a GPU, got ", q.size(0));
  Inputs in{with_packed_heads(q), with_packed_heads(k), with_packed_heads(v), {}, {}};
  AttentionParams& p = in.params;
  p.q = in.q.const_data_ptr();
  p.k = in.k.const_data_ptr();
  p.v = in.v.const_data_ptr();
  p.q_stride = in.q.stride(0);
  p.k_stride = in.k.stride(0);
  p.v_stride = in.v.stride(0);
  p.cu_seqlens = cu_seqlens.const_data_ptr<int32_t>();
  p.total_tokens = q.size(0);
  p.num_sessions = static_cast<int>(cu_seqlens.size(0) - 1);
  p.num_heads = static_cast<int>(q.size(1));
  p.head_dim = static_cast<int>(q.size(2));
  p.causal = causal;
  p.scale = static_cast<float>(scale);
  p.load_bytes = kWidestCopy;
  for (const Tensor* x : {&in.q, &in.k, &in.v}) {
    p.load_bytes = std::min(p.load_bytes, load_bytes(*x, p.head_dim));
  }
  p.keep_scale = 1.0f;
  if (bias) {
    check_distance_bias(op, *bias, q);
    in.bias = torch::stable::contiguous(torch::stable::to(*bias, ScalarType::Float));
    p.distance_bias = in.bias->const_data_ptr<float>();
    p.num_distances = static_cast<int>(bias->size(1));
  }
  if (rng && dropout_p > 0) {
    check_rng(op, *rng, q);
    p.rng = rng->const_data_ptr<int64_t>();
    p.drop_threshold = drop_threshold(dropout_p);
    p.keep_scale = static_cast<float>(1 / (1 - dropout_p));
    p.site = site;
  }
  return in;
}

std::tuple<Tensor, Tensor> varlen_attention(Tensor q, Tensor k, Tensor v, Tensor cu_seqlens,
                                            int64_t /*max_seqlen*/, std::optional<Tensor> bias,
                                            std::optional<Tensor> rng, bool causal, double scale,
                                            double dropout_p, int64_t site, bool allow_tf32) {
  Inputs in = read_inputs("varlen_attention", q, k, v, cu_seqlens, bias, rng, causal, scale,
                          dropout_p, site);
  const DeviceGuard guard(q.get_device_index());
  AttentionParams& p = in.params;
  Tensor out = torch::stable::new_empty(q, {p.total_tokens, p.num_heads, p.head_dim});
  Tensor lse = torch::stable::new_empty(q, {p.num_heads, p.total_tokens}, ScalarType::Float);
  if (p.total_tokens == 0) return {out, lse};
  p.out = out.mutable_data_ptr();
  p.lse = lse.mutable_data_ptr<float>();
  with_arithmetic(q.scalar_type(), allow_tf32,
                  [&](auto arithmetic) { run_forward<decltype(arithmetic)>(p, stream_of(q)); });
  MFGAN_CHECK_LAUNCH();
  return {out, lse};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> varlen_attention_backward(
    Tensor grad_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor cu_seqlens,
    int64_t /*max_seqlen*/, std::optional<Tensor> bias, std::optional<Tensor> rng, bool causal,
    double scale, double dropout_p, int64_t site, bool allow_tf32) {
  const char* op = "varlen_attention_backward";
  Inputs in = read_inputs(op, q, k, v, cu_seqlens, bias, rng, causal, scale, dropout_p, site);
  check_saved_results(op, grad_out, out, lse, q);
  const DeviceGuard guard(q.get_device_index());
  AttentionGradParams g{};
  g.forward = in.params;
  AttentionParams& p = g.forward;
  const Tensor grad = torch::stable::contiguous(grad_out);
  Tensor grads[3];
  for (Tensor& x : grads) {
    x = torch::stable::new_empty(q, {p.total_tokens, p.num_heads, p.head_dim});
  }
  const int64_t num_bias = bias ? p.num_heads * static_cast<int64_t>(p.num_distances) : 0;
  Tensor grad_bias = torch::stable::new_empty(
      q, {bias ? p.num_heads : 0, static_cast<int64_t>(p.num_distances)}, ScalarType::Float);
  if (p.total_tokens == 0) {
    if (bias) torch::stable::zero_(grad_bias);
    return {grads[0], grads[1], grads[2], torch::stable::to(grad_bias, q.scalar_type())};
  }
  Tensor delta = torch::stable::new_empty(q, {p.num_heads, p.total_tokens}, ScalarType::Float);
  const int64_t num_blocks = row_grid(p, warps_for(p)).x;
  Tensor parts = torch::stable::new_empty(q, {num_blocks, num_bias}, ScalarType::Float);
  p.load_bytes =
      std::min({p.load_bytes, load_bytes(grad, p.head_dim), load_bytes(out, p.head_dim)});
  p.out = out.mutable_data_ptr();
  p.lse = lse.mutable_data_ptr<float>();
  g.grad_out = grad.const_data_ptr();
  g.grad_q = grads[0].mutable_data_ptr();
  g.grad_k = grads[1].mutable_data_ptr();
  g.grad_v = grads[2].mutable_data_ptr();
  g.delta = delta.mutable_data_ptr<float>();
  g.bias_parts = bias ? parts.mutable_data_ptr<float>() : nullptr;
  with_arithmetic(q.scalar_type(), allow_tf32,
                  [&](auto arithmetic) { run_backward<decltype(arithmetic)>(g, stream_of(q)); });
  if (bias) {
    const auto blocks = static_cast<unsigned>((num_bias + kReduceThreads - 1) / kReduceThreads);
    simt::launch(sum_parts, dim3(blocks), dim3(kReduceThreads), 0, stream_of(q),
                 static_cast<const float*>(g.bias_parts), grad_bias.mutable_data_ptr<float>(),
                 static_cast<int>(num_blocks), static_cast<int>(num_bias));
  }
  MFGAN_CHECK_LAUNCH();
  return {grads[0], grads[1], grads[2], torch::stable::to(grad_bias, q.scalar_type())};
}

}  // namespace
}  // namespace mfgan::gpu

MFGAN_DEVICE_OPS(m) {
  m.impl("varlen_attention", TORCH_BOX(&mfgan::gpu::varlen_attention));
  m.impl("varlen_attention_backward", TORCH_BOX(&mfgan::gpu::varlen_attention_backward));
}
