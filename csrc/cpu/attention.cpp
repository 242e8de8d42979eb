#include "cpu/attention.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "checks.h"
#include "cpu/dispatch.h"
#include "rng.h"

namespace mfgan::cpu {
namespace {

// Backward adds the bias gradient up in this many groups of tasks, whatever the thread count.
constexpr int64_t kBiasGroups = 32;
// Roughly multiplications: what makes a task of its own, and what another thread is woken for.
constexpr int64_t kTaskCost = 200'000;
constexpr int64_t kThreadCost = 1'000'000;

Tensor with_contiguous_features(const Tensor& x) {
  return x.stride(2) == 1 || x.size(2) == 1 ? x : torch::stable::contiguous(x);
}

Rows rows_of(const Tensor& x) { return {x.const_data_ptr(), x.stride(0), x.stride(1)}; }

struct Inputs {
  Tensor q, k, v;
  std::optional<Tensor> bias;
  AttentionParams params;
  int64_t num_sessions;
  int64_t cost = 0;
  std::vector<AttentionRange> tasks;  // the dearest first, so that no thread is left with one
};

// Long sessions are a task a head; short ones share a task, in the order in which they lie, so that
// memory is read in one stream. Follows from the lengths alone.
void plan_tasks(Inputs& in) {
  const AttentionParams& p = in.params;
  std::vector<std::pair<int64_t, AttentionRange>> tasks;
  AttentionRange shared{0, 0, 0, p.num_heads};
  int64_t shared_cost = 0;
  const auto close = [&](int64_t next) {
    if (shared_cost > 0) tasks.emplace_back(shared_cost, shared);
    shared = {next, next, 0, p.num_heads};
    shared_cost = 0;
  };
  for (int64_t i = 0; i < in.num_sessions; ++i) {
    const int64_t length = p.cu_seqlens[i + 1] - p.cu_seqlens[i];
    const int64_t cost = length == 0 ? 0 : (length + 16) * (length + 16) * p.head_dim;
    in.cost += cost * p.num_heads;
    if (cost >= kTaskCost) {
      close(i + 1);
      for (int64_t head = 0; head < p.num_heads; ++head)
        tasks.emplace_back(cost, AttentionRange{i, i + 1, head, head + 1});
    } else {
      shared.last_session = i + 1;
      shared_cost += cost * p.num_heads;
      if (shared_cost >= kTaskCost) close(i + 1);
    }
  }
  close(in.num_sessions);
  std::stable_sort(tasks.begin(), tasks.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  in.tasks.reserve(tasks.size());
  for (const auto& task : tasks) in.tasks.push_back(task.second);
}

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
            0,
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
  plan_tasks(in);
  return in;
}

std::tuple<Tensor, Tensor> varlen_attention(Tensor q, Tensor k, Tensor v, Tensor cu_seqlens,
                                            int64_t max_seqlen, std::optional<Tensor> distance_bias,
                                            std::optional<Tensor> rng, bool causal, double scale,
                                            double dropout_p, int64_t site, bool /*allow_tf32*/) {
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
    for_each_task(
        in.tasks.size(), [&](int64_t task) { attention_forward<T>(p, in.tasks[task], to, to_lse); },
        in.cost / kThreadCost);
  });
  return {out, lse};
}

template <typename T>
Tensor backward_of(const Inputs& in, const Rows& grad_out, T* grad_q, T* grad_k, T* grad_v) {
  const AttentionParams& p = in.params;
  const int64_t num_tasks = in.tasks.size();
  // Backward takes some 2.5 times as long as forward.
  const int64_t most_threads = in.cost * 5 / (2 * kThreadCost);
  const auto run = [&](int64_t task, double* grad_bias) {
    attention_backward<T>(p, in.tasks[task], grad_out, grad_q, grad_k, grad_v, grad_bias);
  };
  if (!p.distance_bias) {
    for_each_task(num_tasks, [&](int64_t task) { run(task, nullptr); }, most_threads);
    return torch::stable::new_empty(in.q, {0, 0});
  }
  const int64_t size = p.num_heads * p.num_distances;
  std::vector<double> partial(kBiasGroups * size);
  const auto run_group = [&](int64_t group) {
    for (int64_t task = group; task < num_tasks; task += kBiasGroups)
      run(task, partial.data() + group * size);
  };
  for_each_task(kBiasGroups, run_group, most_threads);
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
    double scale, double dropout_p, int64_t site, bool /*allow_tf32*/) {
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
