// The attention kernels against float64, for every kind of arithmetic: `attention_check ORDER
// COPIES`.
#include "check.h"
#include "cuda/attention_plan.cuh"

namespace mfgan::gpu {
namespace {

constexpr int kHeads = 1, kHeadDim = 24, kDistances = 6;
const std::vector<int32_t> kBounds = {0, 7, 7, 8, 150, 160};
constexpr float kScale = 0.3f;

struct Exact64 {
  std::vector<double> out, grad_q, grad_k, grad_v;
};

// One head of one session after another, by the definition.
template <typename T>
Exact64 by_definition(const std::vector<T>& q, const std::vector<T>& k, const std::vector<T>& v,
                      const std::vector<T>& grad, const std::vector<float>& bias, bool causal) {
  Exact64 result;
  for (auto* x : {&result.out, &result.grad_q, &result.grad_k, &result.grad_v}) {
    x->assign(q.size(), 0.0);
  }
  const auto at = [](int token, int head, int d) { return (token * kHeads + head) * kHeadDim + d; };
  const auto value = [](T x) { return static_cast<double>(simt::to_float(x)); };
  for (size_t s = 0; s + 1 < kBounds.size(); ++s) {
    for (int head = 0; head < kHeads; ++head) {
      for (int i = kBounds[s]; i < kBounds[s + 1]; ++i) {
        const int stop = causal ? i + 1 : kBounds[s + 1];
        std::vector<double> weights, grad_weights;
        double total = 0, delta = 0;
        for (int j = kBounds[s]; j < stop; ++j) {
          double logit = 0, grad_weight = 0;
          for (int d = 0; d < kHeadDim; ++d) {
            logit += value(q[at(i, head, d)]) * value(k[at(j, head, d)]) * kScale;
            grad_weight += value(grad[at(i, head, d)]) * value(v[at(j, head, d)]);
          }
          logit += bias[head * kDistances + std::min(std::abs(i - j), kDistances - 1)];
          weights.push_back(std::exp(logit));
          grad_weights.push_back(grad_weight);
          total += weights.back();
        }
        for (size_t n = 0; n < weights.size(); ++n) {
          weights[n] /= total;
          delta += weights[n] * grad_weights[n];
        }
        for (int j = kBounds[s]; j < stop; ++j) {
          const double weight = weights[j - kBounds[s]];
          const double grad_logit = weight * (grad_weights[j - kBounds[s]] - delta) * kScale;
          for (int d = 0; d < kHeadDim; ++d) {
            const int mine = at(i, head, d), theirs = at(j, head, d);
            result.out[mine] += weight * value(v[theirs]);
            result.grad_q[mine] += grad_logit * value(k[theirs]);
            result.grad_k[theirs] += grad_logit * value(q[mine]);
            result.grad_v[theirs] += weight * value(grad[mine]);
          }
        }
      }
    }
  }
  return result;
}

template <typename Arithmetic>
bool check(const char* name, bool causal, double allowed) {
  using Value = typename Arithmetic::Value;
  const int tokens = kBounds.back();
  const size_t size = static_cast<size_t>(tokens) * kHeads * kHeadDim;
  const auto q = check::random_values<Value>(size, 1), k = check::random_values<Value>(size, 2),
             v = check::random_values<Value>(size, 3), grad = check::random_values<Value>(size, 4);
  const auto bias = check::random_values<float>(kHeads * kDistances, 5);
  std::vector<Value> out(size), grad_q(size), grad_k(size), grad_v(size);
  std::vector<float> lse(kHeads * tokens), delta(kHeads * tokens);

  AttentionGradParams g{};
  AttentionParams& p = g.forward;
  p.q = q.data();
  p.k = k.data();
  p.v = v.data();
  p.q_stride = p.k_stride = p.v_stride = kHeads * kHeadDim;
  p.cu_seqlens = kBounds.data();
  p.distance_bias = bias.data();
  p.out = out.data();
  p.lse = lse.data();
  p.total_tokens = tokens;
  p.num_sessions = static_cast<int>(kBounds.size()) - 1;
  p.num_heads = kHeads;
  p.head_dim = kHeadDim;
  p.num_distances = kDistances;
  p.causal = causal;
  p.load_bytes = 16;
  p.scale = kScale;
  p.keep_scale = 1.0f;
  launch_forward<Arithmetic, 32, kManyWarps>(p, nullptr);

  std::vector<float> parts(row_grid(p, kManyWarps).x * kHeads * kDistances);
  g.grad_out = grad.data();
  g.grad_q = grad_q.data();
  g.grad_k = grad_k.data();
  g.grad_v = grad_v.data();
  g.delta = delta.data();
  g.bias_parts = parts.data();
  launch_backward<Arithmetic, 32, kManyWarps>(g, nullptr);

  const Exact64 exact = by_definition(q, k, v, grad, bias, causal);
  std::printf("%s, %s\n", name, causal ? "causal" : "full");
  const bool right[] = {
      check::within("  out", check::worst_error(out, exact.out), allowed),
      check::within("  grad_q", check::worst_error(grad_q, exact.grad_q), allowed),
      check::within("  grad_k", check::worst_error(grad_k, exact.grad_k), allowed),
      check::within("  grad_v", check::worst_error(grad_v, exact.grad_v), allowed)};
  return right[0] && right[1] && right[2] && right[3];
}

}  // namespace
}  // namespace mfgan::gpu

int main(int count, char** words) {
  using namespace mfgan::gpu;
  mfgan::check::set_schedule(count, words);
  bool right = true;
  for (const bool causal : {true, false}) {
    right &= check<Exact>("float32", causal, 2e-5);
    right &= check<Tf32>("tf32", causal, 3e-2);
    right &= check<Half<simt::half>>("float16", causal, 2e-2);
    right &= check<Half<simt::bf16>>("bfloat16", causal, 1.5e-1);
  }
  return right ? 0 : 1;
}
