// The factor_score kernels against float64, for every kind of arithmetic: `factor_score_check ORDER
// COPIES`. The grid is capped, so that blocks go on to further tiles.
#include <numeric>

#include "check.h"
#include "cuda/factor_score_plan.cuh"
#include "factor_score_definition.h"

namespace mfgan::gpu {
namespace {

using check::ScoreArrays;
using check::ScoreIndices;
using check::ScoreSizes;

constexpr int kMostBlocks = 2;  // over two factors: one block each, for two tiles of scores

template <typename Value>
using Arrays = std::array<std::vector<Value>, check::kNumScoreArrays>;

ScoreIndices made_indices(const ScoreSizes& n) {
  ScoreIndices at;
  at.bounds = {0, 7, 7, 8, 30};
  std::mt19937 generator(3);
  const auto row = [&] { return static_cast<int64_t>(generator() % n.rows); };
  for (int token = 0; token < at.bounds.back(); ++token) {
    at.history.push_back(row());
    at.positions.push_back((token * 7) % at.bounds.back());
    for (int i = 0; i < n.candidates; ++i) at.candidates.push_back(row());
  }
  return at;
}

struct Sorted {
  std::vector<int64_t> values, order;

  explicit Sorted(const std::vector<int64_t>& x) : values(x), order(x.size()) {
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return x[a] < x[b]; });
    std::sort(values.begin(), values.end());
  }
};

template <typename Value>
std::vector<Value> transposed(const std::vector<Value>& x, int factors, int rows, int columns) {
  std::vector<Value> t(x.size());
  for (int f = 0; f < factors; ++f) {
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < columns; ++j) {
        t[(f * columns + j) * rows + i] = x[(f * rows + i) * columns + j];
      }
    }
  }
  return t;
}

template <typename Value>
ScoreParams params_of(const ScoreSizes& n, const Arrays<Value>& x, const ScoreIndices& at) {
  ScoreParams p{};
  const void** const arrays[] = {
      &p.query,          &p.key,         &p.value,      &p.residual, &p.position_key,
      &p.position_value, &p.out_weight,  &p.ff1_weight, &p.ff1_bias, &p.ff2_weight,
      &p.ff2_bias,       &p.head_weight, &p.head_bias};
  for (int i = 0; i < check::kNumScoreArrays; ++i) *arrays[i] = x[i].data();
  p.history_rows = at.history.data();
  p.candidate_rows = at.candidates.data();
  p.positions = at.positions.data();
  p.cu_seqlens = at.bounds.data();
  p.num_scores = static_cast<int64_t>(at.candidates.size());
  p.num_rows = n.rows;
  p.total_tokens = static_cast<int64_t>(at.history.size());
  p.num_sessions = static_cast<int>(at.bounds.size()) - 1;
  p.num_factors = n.factors;
  p.num_heads = n.heads;
  p.dim = n.dim;
  p.head_dim = n.dim / n.heads;
  p.width = n.width;
  p.num_distances = n.distances;
  p.num_candidates = n.candidates;
  p.max_history = n.max_history;
  p.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(p.head_dim)));
  p.keep_scale = 1.0f;
  return p;
}

// Runs the backward pass over buffers that hold no number before.
template <typename Arithmetic>
Arrays<typename Arithmetic::Value> run_backward(
    const ScoreParams& p, const ScoreSizes& n, const Arrays<typename Arithmetic::Value>& x,
    const ScoreIndices& at, const std::vector<typename Arithmetic::Value>& grad) {
  using Value = typename Arithmetic::Value;
  const Sorted positions(at.positions), candidates(at.candidates), history(at.history);
  const std::vector<Value> weights[] = {
      transposed(x[check::kOutWeight], n.factors, n.dim, n.dim),
      transposed(x[check::kFf1Weight], n.factors, n.width, n.dim),
      transposed(x[check::kFf2Weight], n.factors, n.dim, n.width)};
  ScoreGradParams g{};
  g.forward = p;
  g.grad_out = grad.data();
  g.out_weight_t = weights[0].data();
  g.ff1_weight_t = weights[1].data();
  g.ff2_weight_t = weights[2].data();
  g.sorted_positions = positions.values.data();
  g.position_order = positions.order.data();
  g.sorted_candidates = candidates.values.data();
  g.candidate_order = candidates.order.data();
  g.sorted_history = history.values.data();
  g.history_order = history.order.data();
  g.num_parts = kMostBlocks / n.factors;
  g.num_position_parts = 2;
  g.part = score_part(p);

  std::vector<std::vector<float>> buffers;
  buffers.reserve(16);
  const auto floats = [&](size_t count) { return buffers.emplace_back(count, NAN).data(); };
  const size_t f = n.factors, s = p.num_scores, d = n.dim;
  std::vector<Value> attended(f * s * d, simt::from_float<Value>(NAN));
  g.grad_attended = attended.data();
  for (float** to : {&g.grad_query, &g.grad_hidden}) *to = floats(f * s * d);
  for (float** to : {&g.lse, &g.delta, &g.own_weight, &g.own_grad}) *to = floats(f * s * n.heads);
  for (float** to : {&g.token_key, &g.token_value}) *to = floats(f * p.total_tokens * d);
  for (float** to : {&g.distance_key, &g.distance_value}) {
    *to = floats(g.num_position_parts * f * n.max_history * d);
  }
  g.parts = floats(g.num_parts * f * g.part.size);
  std::vector<int64_t> bounds[2];
  for (auto& b : bounds) b.assign(n.rows + 1, -1);
  g.candidate_bounds = bounds[0].data();
  g.history_bounds = bounds[1].data();

  Arrays<Value> grads;
  void** const to[] = {
      &g.to_query,          &g.to_key,         &g.to_value,      &g.to_residual, &g.to_position_key,
      &g.to_position_value, &g.to_out_weight,  &g.to_ff1_weight, &g.to_ff1_bias, &g.to_ff2_weight,
      &g.to_ff2_bias,       &g.to_head_weight, &g.to_head_bias};
  for (int i = 0; i < check::kNumScoreArrays; ++i) {
    grads[i].assign(x[i].size(), simt::from_float<Value>(NAN));
    *to[i] = grads[i].data();
  }
  launch_score_backward<Arithmetic, 32>(g, nullptr);
  return grads;
}

// The slope of the exact scores, weighted by `grad`, where one array moves along `direction`.
double exact_slope(const ScoreSizes& n, ScoreArrays x, const ScoreIndices& at,
                   const std::vector<double>& grad, int array,
                   const std::vector<double>& direction) {
  constexpr double kStep = 1e-5;
  double slope = 0;
  for (const double sign : {1.0, -1.0}) {
    ScoreArrays moved = x;
    for (size_t i = 0; i < direction.size(); ++i) moved[array][i] += sign * kStep * direction[i];
    const std::vector<double> scores = check::scores_by_definition(n, moved, at);
    for (size_t i = 0; i < scores.size(); ++i) slope += sign * scores[i] * grad[i] / (2 * kStep);
  }
  return slope;
}

template <typename Value>
std::vector<double> widened(const std::vector<Value>& x) {
  std::vector<double> wide;
  for (const Value& value : x) wide.push_back(simt::to_float(value));
  return wide;
}

template <typename Arithmetic>
bool check(const char* name, double allowed, double allowed_slope) {
  using Value = typename Arithmetic::Value;
  const ScoreSizes n;
  const ScoreIndices at = made_indices(n);
  Arrays<Value> x;
  ScoreArrays exact;
  for (int i = 0; i < check::kNumScoreArrays; ++i) {
    x[i] = check::random_values<Value>(n.of_arrays()[i], 10 + i);
    for (Value& value : x[i]) {
      // Gates stay far from their edge, where a rounding error would be worth a whole gradient.
      const float v = simt::to_float(value);
      const bool is_bias = i == check::kFf1Bias;
      value = simt::from_float<Value>(is_bias ? v + std::copysign(5.0f, v) : 0.4f * v);
    }
    exact[i] = widened(x[i]);
  }
  std::vector<Value> out(at.candidates.size() * n.factors, simt::from_float<Value>(NAN));
  const auto grad = check::random_values<Value>(out.size(), 99);
  ScoreParams p = params_of<Value>(n, x, at);
  p.aligned = !std::is_same_v<Value, simt::half>;  // both kinds of loads are met
  p.out = out.data();
  launch_score_forward<Arithmetic, 32>(p, kMostBlocks, nullptr);
  std::printf("%s\n", name);
  const auto scores = check::scores_by_definition(n, exact, at);
  bool right = check::within("  scores", check::worst_error(out, scores), allowed);

  const auto grads = run_backward<Arithmetic>(p, n, x, at, grad);
  for (int i = 0; i < check::kNumScoreArrays; ++i) {
    const auto direction = widened(check::random_values<float>(grads[i].size(), 200 + i));
    double slope = 0, size = 0;
    for (size_t j = 0; j < grads[i].size(); ++j) {
      const double value = simt::to_float(grads[i][j]);
      slope += value * direction[j];
      size += value * value;
    }
    const double expected = exact_slope(n, exact, at, widened(grad), i, direction);
    const double error = std::fabs(slope - expected) / std::sqrt(size + 1e-9);
    right &= check::within(("  gradient " + std::to_string(i)).c_str(),
                           std::isnan(error) ? INFINITY : error, allowed_slope);
  }
  return right;
}

}  // namespace
}  // namespace mfgan::gpu

int main(int count, char** words) {
  using namespace mfgan::gpu;
  mfgan::check::set_schedule(count, words);
  bool right = check<Exact>("float32", 3e-5, 1e-5);
  right &= check<Half<simt::half>>("float16", 2e-2, 5e-3);
  right &= check<Half<simt::bf16>>("bfloat16", 1.6e-1, 3e-2);
  return right ? 0 : 1;
}
