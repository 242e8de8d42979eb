// The CPU kernels without torch, against float64 by the definition: what shows that they are right
// on another kind of processor too. Prints a line a check; ends with 1 where one fails.
#include "cpu_check.h"

#include "cpu/attention.h"
#include "cpu/dropout.h"
#include "cpu/softmax_choices.h"

namespace mfgan::cpu::check {
namespace {

const std::vector<int32_t> kBounds = {0, 7, 7, 8, 150, 160};
constexpr int64_t kTokens = 160, kDistances = 6;
constexpr double kScale = 0.3;

struct Attention {
  Doubles out, grad_q, grad_k, grad_v, grad_bias;
};

// One head of one session after another.
template <typename T>
Attention attention_by_definition(const std::vector<T>& q, const std::vector<T>& k,
                                  const std::vector<T>& v, const std::vector<T>& grad,
                                  const std::vector<T>& bias, int64_t dim, bool causal) {
  Attention result;
  for (Doubles* x : {&result.out, &result.grad_q, &result.grad_k, &result.grad_v}) {
    x->assign(q.size(), 0);
  }
  result.grad_bias.assign(bias.size(), 0);
  const auto at = [&](int64_t token, int64_t head) { return (token * kHeads + head) * dim; };
  const auto dot = [&](const std::vector<T>& a, int64_t i, const std::vector<T>& b, int64_t j) {
    double sum = 0;
    for (int64_t d = 0; d < dim; ++d) sum += value(a[i + d]) * value(b[j + d]);
    return sum;
  };
  for (size_t s = 0; s + 1 < kBounds.size(); ++s)
    for (int64_t head = 0; head < kHeads; ++head)
      for (int64_t i = kBounds[s]; i < kBounds[s + 1]; ++i) {
        const int64_t first = kBounds[s], stop = causal ? i + 1 : kBounds[s + 1], me = at(i, head);
        const auto distance = [&](int64_t j) {
          return head * kDistances + std::min(std::abs(i - j), kDistances - 1);
        };
        Doubles weights, grads;
        double total = 0, delta = 0;
        for (int64_t j = first; j < stop; ++j) {
          weights.push_back(
              std::exp(dot(q, me, k, at(j, head)) * kScale + value(bias[distance(j)])));
          total += weights.back();
          const bool kept = keeps_at(kSite, i * kHeads + head, j - first);
          grads.push_back(kept ? kKeepScale * dot(grad, me, v, at(j, head)) : 0);
        }
        for (size_t n = 0; n < weights.size(); ++n) delta += (weights[n] /= total) * grads[n];
        for (int64_t j = first; j < stop; ++j) {
          const int64_t other = at(j, head);
          const double weight = weights[j - first],
                       grad_logit = weight * (grads[j - first] - delta);
          const bool kept = keeps_at(kSite, i * kHeads + head, j - first);
          result.grad_bias[distance(j)] += grad_logit;
          for (int64_t d = 0; d < dim; ++d) {
            result.grad_q[me + d] += grad_logit * kScale * value(k[other + d]);
            result.grad_k[other + d] += grad_logit * kScale * value(q[me + d]);
            if (!kept) continue;
            result.out[me + d] += weight * kKeepScale * value(v[other + d]);
            result.grad_v[other + d] += weight * kKeepScale * value(grad[me + d]);
          }
        }
      }
  return result;
}

template <typename T>
bool check_attention(const char* kind, int64_t dim, bool causal, double allowed) {
  const size_t size = kTokens * kHeads * dim;
  const auto q = made<T>(size, 1), k = made<T>(size, 2), v = made<T>(size, 3),
             grad = made<T>(size, 4), bias = made<T>(kHeads * kDistances, 5);
  const Attention exact = attention_by_definition(q, k, v, grad, bias, dim, causal);
  const auto rows = [&](const std::vector<T>& x) { return Rows{x.data(), kHeads * dim, dim}; };
  std::vector<T> out(size), grad_q(size), grad_k(size), grad_v(size);
  std::vector<Wide<T>> lse(kHeads * kTokens);
  std::vector<double> grad_bias(bias.size(), 0.0);
  AttentionParams params;
  params.total_tokens = kTokens;
  params.num_heads = kHeads;
  params.head_dim = dim;
  params.cu_seqlens = kBounds.data();
  params.causal = causal;
  params.scale = kScale;
  params.distance_bias = bias.data();
  params.num_distances = kDistances;
  params.drop_threshold = drop_threshold(kDropout);
  params.keep_scale = kKeepScale;
  params.seed = kSeed;
  params.offset = kOffset;
  params.site = kSite;
  params.q = rows(q);
  params.k = rows(k);
  params.v = rows(v);
  const AttentionRange all{0, static_cast<int64_t>(kBounds.size()) - 1, 0, kHeads};
  attention_forward<T>(params, all, out.data(), lse.data());
  params.out = rows(out);
  params.lse = lse.data();
  attention_backward<T>(params, all, rows(grad), grad_q.data(), grad_k.data(), grad_v.data(),
                        grad_bias.data());
  bool good = close(kind, "attention", out, exact.out, allowed);
  good &= close(kind, "attention grad_q", grad_q, exact.grad_q, 2 * allowed);
  good &= close(kind, "attention grad_k", grad_k, exact.grad_k, 2 * allowed);
  good &= close(kind, "attention grad_v", grad_v, exact.grad_v, 2 * allowed);
  return close(kind, "attention grad_bias", grad_bias, exact.grad_bias, 2 * allowed) && good;
}

template <typename T>
bool check_dropout(const char* kind, double allowed) {
  constexpr int64_t kRows = 9, kColumns = 37;
  const auto x = made<T>(kRows * kColumns, 1), residual = made<T>(kRows * kColumns, 2);
  std::vector<T> out(x.size());
  Doubles exact;
  for (int64_t i = 0; i < kRows * kColumns; ++i) {
    const bool kept = keeps_at(kSite, i / kColumns, i % kColumns);
    exact.push_back(value(residual[i]) + (kept ? kKeepScale * value(x[i]) : 0));
  }
  const DropoutParams params{kColumns, drop_threshold(kDropout), kKeepScale, kSeed, kOffset, kSite};
  dropout_residual_rows<T>(params, x.data(), residual.data(), out.data(), 0, kRows);
  return close(kind, "dropout_residual", out, exact, allowed);
}

template <typename T>
bool check_softmax(const char* kind, double allowed) {
  constexpr int64_t kRows = 4, kColumns = 131;
  std::vector<T> logits = made<T>(kRows * kColumns, 9, 3);
  store(&logits[5], -Wide<T>(INFINITY));  // what is hidden
  const std::vector<int64_t> choices = {0, 130, 77, 1};
  Doubles probs, log_probs, entropy(kRows);
  for (int64_t row = 0; row < kRows; ++row) {
    const T* at = &logits[row * kColumns];
    double sum = 0;
    for (int64_t i = 0; i < kColumns; ++i) sum += std::exp(value(at[i]));
    for (int64_t i = 0; i < kColumns; ++i) {
      probs.push_back(std::exp(value(at[i])) / sum);
      if (probs.back() > 0) entropy[row] -= probs.back() * std::log(probs.back());
    }
    log_probs.push_back(value(at[choices[row]]) - std::log(sum));
  }
  std::vector<Wide<T>> found(kRows), found_entropy(kRows);
  softmax_choices_of_rows<T>(
      {logits.data(), kColumns, kColumns, choices.data(), 1, found.data(), found_entropy.data()}, 0,
      kRows);
  const double exact = std::min(allowed, 32 * 0x1p-23);
  return close(kind, "softmax", logits, probs, allowed) &
         close(kind, "log-probabilities", found, log_probs, exact) &
         close(kind, "entropy", found_entropy, entropy, exact);
}

template <typename T>
bool check_all(const char* kind, double epsilon, double times) {
  bool good = check_dropout<T>(kind, epsilon);
  good &= check_softmax<T>(kind, times * epsilon);
  for (int64_t dim : {1, 24, 50})
    for (bool causal : {true, false})
      good &= check_attention<T>(kind, dim, causal, times * epsilon);
  return good;
}

}  // namespace
}  // namespace mfgan::cpu::check

int main() {
  using namespace mfgan::cpu;
  using namespace mfgan::cpu::check;
  bool good = check_all<float>("float32", 0x1p-23, 32);
  good &= check_all<double>("float64", 0x1p-52, 32);
  // Here what counts is the rounding of what is stored.
  good &= check_all<BFloat16>("bfloat16", 0x1p-8, 2);
  good &= check_all<Half>("float16", 0x1p-11, 2);
  good &= check_scores();
  std::printf("%s\n", good ? "all good" : "FAILED");
  return good ? 0 : 1;
}
