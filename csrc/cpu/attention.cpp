#include "cpu/attention.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "checks.h"
#include "cpu/dispatch.h"
#include "rng.h"

namespace mfgan::cpu {
namespace {

// Backward adds the bias gradient up in this many groups of sessions, whatever the thread count.
constexpr int64_t kBiasGroups = 32;

Tensor with_contiguous_features(const Tensor& x) {
  return x.stride(2) == 1 || x.size(2) == 1 ? x : torch::stable::contiguous(x);
}

Rows rows_of(const Tensor& x) { return {x.const_data_ptr(), x.stride(0), x.stride(1)}; }

struct Inputs {
  Tensor q, k, v;
  std::optional<Tensor> bias;
  AttentionParams params;
  int64_t num_sessions;
  std::vector<int32_t> order;  // sessions, the longest first
};

Inputs read_inputs(const char* op, const Tensor& q, const Tensor& k, const Tensor& v,
                   const Tensor& cu_seqlens, int64_t max_seqlen, const std::optional<Tensor>& bias,
                   const std::optional<Tensor>& rng, bool causal, double scale, double dropout_p,
                   int64_t site) {
  check_packed_qkv(op, q, k, v, cu_seqlens);
  check_dropout_p(op, dropout_p);
  Inputs in{with_contiguous_features(q),
            with_contiguous_features(k),
            with_contiguous_features(v),
            bias,
            {},
            cu_seqlens.size(0) - 1,
            {}};
  AttentionParams& p = in.params;
  p.total_tokens = q.size(0);
  p.num_heads = q.size(1);
  p.head_dim = q.size(2);
  p.cu_seqlens = cu_seqlens.const_data_ptr<int32_t>();
  check_session_bounds(op, p.cu_seqlens, in.num_sessions, p.total_tokens, max_seqlen);
  p.causal = causal;
  p.scale = scale;
  if (bias) {
    check_distance_bias(op, *bias, q);
    in.bias = torch::stable::contiguous(*bias);
    p.distance_bias = in.bias->const_data_ptr();
    p.num_distances = bias->size(1);
  }
  if (rng && dropout_p > 0) {
    check_rng(op, *rng, q);
    p.drop_threshold = drop_threshold(dropout_p);
    p.keep_scale = 1 / (1 - dropout_p);
    p.seed = rng->const_data_ptr<int64_t>()[0];
    p.offset = rng->const_data_ptr<int64_t>()[1];
    p.site = site;
  }
  p.q = rows_of(in.q);
  p.k = rows_of(in.k);
  p.v = rows_of(in.v);
  in.order.resize(in.num_sessions);
  for (int64_t i = 0; i < in.num_sessions; ++i) in.order[i] = static_cast<int32_t>(i);
  const auto length = [&](int32_t i) { return p.cu_seqlens[i + 1] - p.cu_seqlens[i]; };
  std::stable_sort(in.order.begin(), in.order.end(),
                   [&](int32_t a, int32_t b) { return length(a) > length(b); });
  return in;
}

std::tuple<Tensor, Tensor> varlen_attention(Tensor q, Tensor k, Tensor v, Tensor cu_seqlens,
                                            int64_t max_seqlen, std::optional<Tensor> distance_bias,
                                            std::optional<Tensor> rng, bool causal, double scale,
                                            double dropout_p, int64_t site) {
  const Inputs in = read_inputs("varlen_attention", q, k, v, cu_seqlens, max_seqlen, distance_bias,
                                rng, causal, scale, dropout_p, site);
  const AttentionParams& p = in.params;
  Tensor out = torch::stable::new_empty(q, {p.total_tokens, p.num_heads, p.head_dim});
  Tensor lse =
      torch::stable::new_empty(q, {p.num_heads, p.total_tokens}, wide_type(q.scalar_type()));
  with_element_type(q.scalar_type(), [&](auto type) {
    using T = typename decltype(type)::type;
    T* to = static_cast<T*>(out.mutable_data_ptr());
    Wide<T>* to_lse = static_cast<Wide<T>*>(lse.mutable_data_ptr());
    for_each_task(in.num_sessions * p.num_heads, [&](int64_t task) {
      attention_forward<T>(p, in.order[task / p.num_heads], task % p.num_heads, to, to_lse);
    });
  });
  return {out, lse};
}

template <typename T>
Tensor backward_of(const Inputs& in, const Rows& grad_out, T* grad_q, T* grad_k, T* grad_v) {
  const AttentionParams& p = in.params;
  if (!p.distance_bias) {
    for_each_task(in.num_sessions * p.num_heads, [&](int64_t task) {
      attention_backward<T>(p, in.order[task / p.num_heads], task % p.num_heads, grad_out, grad_q,
                            grad_k, grad_v, nullptr);
    });
    return torch::stable::new_empty(in.q, {0, 0});
  }
  const int64_t size = p.num_heads * p.num_distances;
  std::vector<double> partial(kBiasGroups * size);
  for_each_task(kBiasGroups * p.num_heads, [&](int64_t task) {
    const int64_t group = task / p.num_heads, head = task % p.num_heads;
    double* grad_bias = partial.data() + group * size + head * p.num_distances;
    for (int64_t i = group; i < in.num_sessions; i += kBiasGroups)
      attention_backward<T>(p, in.order[i], head, grad_out, grad_q, grad_k, grad_v, grad_bias);
  });
  Tensor grad_bias = torch::stable::new_empty(in.q, {p.num_heads, p.num_distances});
  T* to = static_cast<T*>(grad_bias.mutable_data_ptr());
  for (int64_t i = 0; i < size; ++i) {
    double sum = 0;
    for (int64_t group = 0; group < kBiasGroups; ++group) sum += partial[group * size + i];
    store(to + i, static_cast<Wide<T>>(sum));
  }
  return grad_bias;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> varlen_attention_backward(
    Tensor grad_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor cu_seqlens,
    int64_t max_seqlen, std::optional<Tensor> distance_bias, std::optional<Tensor> rng, bool causal,
    double scale, double dropout_p, int64_t site) {
  const char* op = "varlen_attention_backward";
  Inputs in = read_inputs(op, q, k, v, cu_seqlens, max_seqlen, distance_bias, rng, causal, scale,
                          dropout_p, site);
  AttentionParams& p = in.params;
  check_saved_results(op, grad_out, out, lse, q);
  const Tensor grad = with_contiguous_features(grad_out);
  p.out = rows_of(out);
  p.lse = lse.const_data_ptr();
  const auto like_q = [&] {
    return torch::stable::new_empty(q, {p.total_tokens, p.num_heads, p.head_dim});
  };
  Tensor grad_q = like_q(), grad_k = like_q(), grad_v = like_q(), grad_bias;
  with_element_type(q.scalar_type(), [&](auto type) {
    using T = typename decltype(type)::type;
    grad_bias = backward_of<T>(in, rows_of(grad), static_cast<T*>(grad_q.mutable_data_ptr()),
                               static_cast<T*>(grad_k.mutable_data_ptr()),
                               static_cast<T*>(grad_v.mutable_data_ptr()));
  });
  return {grad_q, grad_k, grad_v, grad_bias};
}

STABLE_TORCH_LIBRARY_IMPL(mfgan, CPU, m) {
  m.impl("varlen_attention", TORCH_BOX(&varlen_attention));
  m.impl("varlen_attention_backward", TORCH_BOX(&varlen_attention_backward));
}

}  // namespace
}  // namespace mfgan::cpu
