// The CPU kernels without torch, against float64 by the definition: what shows that they are right
// on another kind of processor too. Prints a line a check; ends with 1 where one fails.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "cpu/attention.h"
#include "cpu/dropout.h"
#include "cpu/factor_score.h"
#include "cpu/softmax_choices.h"
#include "rng.h"

namespace mfgan::cpu {
namespace {

using Doubles = std::vector<double>;

const std::vector<int32_t> kBounds = {0, 7, 7, 8, 150, 160};
constexpr int64_t kTokens = 160, kHeads = 2, kDistances = 6;
constexpr double kScale = 0.3, kDropout = 0.25, kKeepScale = 1 / (1 - kDropout);
constexpr int64_t kSeed = 11, kOffset = 12, kSite = 13;

bool keeps_at(int64_t site, int64_t row, int64_t column) {
  return keeps(row_key(kSeed, kOffset, site, row), static_cast<uint32_t>(column),
               drop_threshold(kDropout));
}

template <typename T>
std::vector<T> made(size_t count, unsigned seed, double size = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0, size);
  std::vector<T> values(count);
  for (T& x : values) store(&x, static_cast<Wide<T>>(normal(generator)));
  return values;
}

template <typename T>
double value(T x) {
  return static_cast<double>(load(x));
}

// False where the worst error, over the largest exact value, is beyond what is allowed.
template <typename T>
bool close(const char* kind, const char* what, const std::vector<T>& actual, const Doubles& exact,
           double allowed) {
  double worst = 0, most = 1e-300;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double error = std::fabs(value(actual[i]) - exact[i]);
    worst = error <= worst ? worst : (std::isnan(error) ? INFINITY : error);
    most = std::max(most, std::fabs(exact[i]));
  }
  std::printf("%-10s %-24s error %.3g, allowed %.3g\n", kind, what, worst / most, allowed);
  return actual.size() == exact.size() && worst / most <= allowed;
}

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

// What a float input of the scores is, and how it is reached.
constexpr int64_t kFactors = 2, kRows = 20, kDim = 24, kWidth = 16, kMaxHistory = 8,
                  kCandidates = 3;
const std::vector<int32_t> kSessions = {0, 5, 12};
constexpr int64_t kPlaces = 12, kFar = kMaxHistory + 1;
constexpr int64_t kSizes[] = {kRows * kDim,
                              kRows * kDim,
                              kRows * kDim,
                              kRows * kDim,
                              kFar * kDim,
                              kFar * kDim,
                              kDim * kDim,
                              kWidth * kDim,
                              kWidth,
                              kDim * kWidth,
                              kDim,
                              kDim,
                              1};
constexpr int kInputs = 13;

template <typename T>
using Inputs = std::vector<std::vector<T>>;

Inputs<double> score_inputs() {
  Inputs<double> inputs;
  for (unsigned i = 0; i < kInputs; ++i) {
    inputs.push_back(made<double>(static_cast<size_t>(kFactors * kSizes[i]), 20 + i, 0.3));
  }
  return inputs;
}

std::vector<int64_t> item_rows(size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<int64_t> rows(count);
  for (int64_t& row : rows) row = static_cast<int64_t>(generator() % kRows);
  return rows;
}

const std::vector<int64_t> kHistory = item_rows(kPlaces, 40),
                           kCandidateRows = item_rows(kPlaces * kCandidates, 41);

// One candidate after one prefix, by one factor.
double score_by_definition(const Inputs<double>& in, int64_t place, int64_t c, int64_t f) {
  const auto part = [&](int i, int64_t row, int64_t width) {
    return in[i].data() + f * kSizes[i] + row * width;
  };
  const int64_t begin = place < kSessions[1] ? 0 : kSessions[1], head_dim = kDim / kHeads;
  const int64_t far = std::min(place - begin + 1, kMaxHistory), pair = place * kCandidates + c;
  const int64_t candidate = kCandidateRows[pair];
  Doubles mixed(kDim, 0.0), hidden(kDim);
  for (int64_t head = 0; head < kHeads; ++head) {
    Doubles weights;
    double total = 0;
    const auto row_at = [&](int64_t d) { return d == 0 ? candidate : kHistory[place - d + 1]; };
    for (int64_t d = 0; d <= far; ++d) {
      double logit = 0;
      for (int64_t e = head * head_dim; e < (head + 1) * head_dim; ++e)
        logit += part(0, candidate, kDim)[e] * (part(1, row_at(d), kDim)[e] + part(4, d, kDim)[e]);
      weights.push_back(std::exp(logit / std::sqrt(double(head_dim))));
      total += weights.back();
    }
    for (int64_t d = 0; d <= far; ++d) {
      if (!keeps_at(kSite, (pair * kFactors + f) * kHeads + head, d)) continue;
      const double weight = weights[d] / total * kKeepScale;
      for (int64_t e = head * head_dim; e < (head + 1) * head_dim; ++e)
        mixed[e] += weight * (part(2, row_at(d), kDim)[e] + part(5, d, kDim)[e]);
    }
  }
  const auto dropped = [&](int64_t site, int64_t e) {
    return keeps_at(kSite + site, pair * kFactors + f, e) ? kKeepScale : 0.0;
  };
  double mean = 0, variance = 0;
  for (int64_t e = 0; e < kDim; ++e) {
    double sum = 0;
    for (int64_t j = 0; j < kDim; ++j) sum += part(6, e, kDim)[j] * mixed[j];
    hidden[e] = part(3, candidate, kDim)[e] + dropped(1, e) * sum;
    mean += hidden[e] / kDim;
  }
  for (double x : hidden) variance += (x - mean) * (x - mean) / kDim;
  Doubles inner(kWidth);
  for (int64_t w = 0; w < kWidth; ++w) {
    double sum = part(8, 0, kWidth)[w];
    for (int64_t e = 0; e < kDim; ++e)
      sum += part(7, w, kDim)[e] * (hidden[e] - mean) / std::sqrt(variance + 1e-5);
    inner[w] = std::max(sum, 0.0);
  }
  double score = part(12, 0, 1)[0];
  for (int64_t e = 0; e < kDim; ++e) {
    double sum = part(10, 0, kDim)[e];
    for (int64_t w = 0; w < kWidth; ++w) sum += part(9, e, kWidth)[w] * inner[w];
    score += part(11, 0, kDim)[e] * (hidden[e] + dropped(2, e) * sum);
  }
  return score;
}

Doubles scores_by_definition(const Inputs<double>& in) {
  Doubles scores;
  for (int64_t place = 0; place < kPlaces; ++place)
    for (int64_t c = 0; c < kCandidates; ++c)
      for (int64_t f = 0; f < kFactors; ++f) scores.push_back(score_by_definition(in, place, c, f));
  return scores;
}

// The scores, and the gradients of all inputs for `grad_out`.
template <typename T>
std::vector<T> kernel_scores(const Inputs<T>& in, const std::vector<T>& grad_out,
                             Inputs<T>& grads) {
  std::vector<int64_t> positions(kPlaces);
  for (int64_t i = 0; i < kPlaces; ++i) positions[i] = i;
  FactorScoreParams<T> p;
  p.num_factors = kFactors;
  p.num_rows = kRows;
  p.num_heads = kHeads;
  p.head_dim = kDim / kHeads;
  p.num_distances = kFar;
  p.width = kWidth;
  p.num_candidates = kCandidates;
  p.max_history = kMaxHistory;
  const T** const inputs[] = {
      &p.query,          &p.key,         &p.value,      &p.residual, &p.position_key,
      &p.position_value, &p.out_weight,  &p.ff1_weight, &p.ff1_bias, &p.ff2_weight,
      &p.ff2_bias,       &p.head_weight, &p.head_bias};
  for (int i = 0; i < kInputs; ++i) *inputs[i] = in[i].data();
  p.history_rows = kHistory.data();
  p.candidate_rows = kCandidateRows.data();
  p.positions = positions.data();
  p.drop_threshold = drop_threshold(kDropout);
  p.keep_scale = static_cast<T>(kKeepScale);
  p.seed = kSeed;
  p.offset = kOffset;
  p.site = kSite;
  ScorePlan plan = plan_scores(positions.data(), kPlaces, kCandidates, kSessions.data(),
                               static_cast<int64_t>(kSessions.size()) - 1, kMaxHistory, kHeads);
  plan_gradients(plan, kCandidates, kRows, kHistory.data(), kCandidateRows.data());
  const ScoreKernels<T> kernels = score_kernels<T>();
  std::vector<T> out(kPlaces * kCandidates * kFactors);
  FactorScoreGrads<T> to;
  T** const outputs[] = {
      &to.query,          &to.key,         &to.value,      &to.residual, &to.position_key,
      &to.position_value, &to.out_weight,  &to.ff1_weight, &to.ff1_bias, &to.ff2_weight,
      &to.ff2_bias,       &to.head_weight, &to.head_bias};
  for (int i = 0; i < kInputs; ++i) {
    grads.emplace_back(in[i].size(), T(0));
    *outputs[i] = grads[i].data();
  }
  for (int64_t f = 0; f < kFactors; ++f) {
    kernels.clear_rows(p, f, to);
    for (size_t chunk = 0; chunk < plan.chunks.size(); ++chunk) {
      const auto number = static_cast<int64_t>(chunk);
      kernels.forward(p, plan, number, f, out.data());
      std::vector<T> sums(static_cast<size_t>(kernels.num_sums(p, plan.chunks[chunk])) + 16);
      T* aligned = sums.data();
      while (reinterpret_cast<uintptr_t>(aligned) % 64 != 0) ++aligned;
      kernels.backward(p, plan, number, f, grad_out.data(), aligned);
      kernels.add(p, plan.chunks[chunk], f, aligned, to);
    }
  }
  return out;
}

// The gradients against the slope of the definition along a random direction.
bool check_slope(const Inputs<double>& in, const Doubles& grad_out, const Inputs<double>& grads) {
  constexpr double kStep = 1e-5;
  bool good = true;
  for (int i = 0; i < kInputs; ++i) {
    const auto direction = made<double>(in[i].size(), 60 + static_cast<unsigned>(i));
    double slope = 0, along = 0;
    for (const double side : {-1.0, 1.0}) {
      Inputs<double> moved = in;
      for (size_t j = 0; j < direction.size(); ++j) moved[i][j] += side * kStep * direction[j];
      const Doubles scores = scores_by_definition(moved);
      for (size_t j = 0; j < scores.size(); ++j)
        slope += side * scores[j] * grad_out[j] / (2 * kStep);
    }
    for (size_t j = 0; j < direction.size(); ++j) along += grads[i][j] * direction[j];
    good &= close("float64", "factor_score slope", Doubles{along}, Doubles{slope}, 1e-6);
  }
  return good;
}

bool check_scores() {
  const Inputs<double> in = score_inputs();
  const size_t size = kPlaces * kCandidates * kFactors;
  const auto grad_out = made<double>(size, 50);
  const std::vector<float> grad_out32(grad_out.begin(), grad_out.end());
  Inputs<double> grads;
  Inputs<float> in32, grads32;
  for (const Doubles& x : in) in32.emplace_back(x.begin(), x.end());
  const Doubles exact = scores_by_definition(in);
  const Doubles found = kernel_scores<double>(in, grad_out, grads);
  bool good = close("float64", "factor_score", found, exact, 1e-13);
  good &= close("float32", "factor_score", kernel_scores<float>(in32, grad_out32, grads32), exact,
                1e-5);
  good &= check_slope(in, grad_out, grads);
  for (int i = 0; i < kInputs; ++i)
    good &= close("float32", "factor_score gradient", grads32[i], grads[i], 1e-4);
  return good;
}

template <typename T>
bool check(const char* kind, double epsilon, double times) {
  bool good = check_dropout<T>(kind, epsilon);
  good &= check_softmax<T>(kind, times * epsilon);
  for (int64_t dim : {1, 24, 50})
    for (bool causal : {true, false})
      good &= check_attention<T>(kind, dim, causal, times * epsilon);
  return good;
}

}  // namespace
}  // namespace mfgan::cpu

int main() {
  using namespace mfgan::cpu;
  bool good = check<float>("float32", 0x1p-23, 32);
  good &= check<double>("float64", 0x1p-52, 32);
  // Here what counts is the rounding of what is stored.
  good &= check<BFloat16>("bfloat16", 0x1p-8, 2);
  good &= check<Half>("float16", 0x1p-11, 2);
  good &= check_scores();
  std::printf("%s\n", good ? "all good" : "FAILED");
  return good ? 0 : 1;
}
