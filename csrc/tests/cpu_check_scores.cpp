// The scores of factors and their gradients, against float64 by the definition (cpu_check.cpp).
#include "cpu/factor_score.h"
#include "cpu_check.h"

namespace mfgan::cpu::check {
namespace {

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

}  // namespace

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

}  // namespace mfgan::cpu::check
