#include "cpu/factor_score.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "cpu/dispatch.h"
#include "factor_score_checks.h"
#include "rng.h"

namespace mfgan::cpu {
namespace {

// Table rows whose gradients one task adds up.
constexpr int64_t kRowsPerTask = 256;

ScoreTensors contiguous(const char* op, ScoreTensors in) {
  check_score_tensors(op, in, ScoreKernelsOf::cpu);
  for (Tensor& x : in.floats) x = torch::stable::contiguous(x);
  for (Tensor* x : {&in.history_rows, &in.candidate_rows, &in.positions, &in.cu_seqlens})
    *x = torch::stable::contiguous(*x);
  check_score_contents(op, in);
  return in;
}

template <typename T>
FactorScoreParams<T> params_of(const ScoreTensors& in, int64_t site) {
  const auto data = [&](ScoreFloat which) { return in.floats[which].const_data_ptr<T>(); };
  FactorScoreParams<T> p;
  p.num_factors = in.floats[kQuery].size(0);
  p.num_rows = in.floats[kQuery].size(1);
  p.num_heads = in.num_heads;
  p.head_dim = in.floats[kQuery].size(2) / in.num_heads;
  p.num_distances = in.floats[kPositionKey].size(1);
  p.width = in.floats[kFf1Weight].size(1);
  p.num_candidates = in.candidate_rows.size(1);
  p.max_history = in.max_history;
  p.query = data(kQuery);
  p.key = data(kKey);
  p.value = data(kValue);
  p.residual = data(kResidual);
  p.position_key = data(kPositionKey);
  p.position_value = data(kPositionValue);
  p.out_weight = data(kOutWeight);
  p.ff1_weight = data(kFf1Weight);
  p.ff1_bias = data(kFf1Bias);
  p.ff2_weight = data(kFf2Weight);
  p.ff2_bias = data(kFf2Bias);
  p.head_weight = data(kHeadWeight);
  p.head_bias = data(kHeadBias);
  p.history_rows = in.history_rows.const_data_ptr<int64_t>();
  p.candidate_rows = in.candidate_rows.const_data_ptr<int64_t>();
  p.positions = in.positions.const_data_ptr<int64_t>();
  if (in.rng && in.dropout_p > 0) {
    p.drop_threshold = drop_threshold(in.dropout_p);
    p.keep_scale = static_cast<T>(1 / (1 - in.dropout_p));
    p.seed = in.rng->const_data_ptr<int64_t>()[0];
    p.offset = in.rng->const_data_ptr<int64_t>()[1];
    p.site = site;
  }
  return p;
}

ScorePlan plan_of(const ScoreTensors& in) {
  return plan_scores(in.positions.const_data_ptr<int64_t>(), in.positions.size(0),
                     in.candidate_rows.size(1), in.cu_seqlens.const_data_ptr<int32_t>(),
                     in.cu_seqlens.size(0) - 1, in.max_history, in.num_heads);
}

template <typename T>
void score_into(const ScoreTensors& in, int64_t site, T* out) {
  const FactorScoreParams<T> params = params_of<T>(in, site);
  const ScorePlan plan = plan_of(in);
  const ScoreKernels<T> kernels = score_kernels<T>();
  const int64_t num_chunks = static_cast<int64_t>(plan.chunks.size());
  for_each_task(num_chunks * params.num_factors, [&](int64_t task) {
    kernels.forward(params, plan, task % num_chunks, task / num_chunks, out);
  });
}

// Runs sum(factor, 0..num_sums - 1) and then, once these are done, add(factor, 0..num_adds - 1) for
// every factor. Threads go on to the next factor's sums while the last ones of a factor are still
// at work, and no further: two factors' sums are held at a time.
template <typename Sum, typename Add>
void for_each_factor(int64_t num_factors, int64_t num_sums, int64_t num_adds, const Sum& sum,
                     const Add& add) {
  std::vector<std::atomic<int64_t>> summed(num_factors), added(num_factors);
  std::atomic<bool> failed{false};
  const auto wait_for = [&](const std::atomic<int64_t>& done, int64_t count) {
    while (done.load(std::memory_order_acquire) < count && !failed) std::this_thread::yield();
  };
  const auto run = [&](int64_t factor, int64_t task) {
    if (task < num_sums) {
      if (factor >= 2) wait_for(added[factor - 2], num_adds);
      sum(factor, task);
      summed[factor].fetch_add(1, std::memory_order_release);
    } else {
      wait_for(summed[factor], num_sums);
      add(factor, task - num_sums);
      added[factor].fetch_add(1, std::memory_order_release);
    }
  };
  // Tasks are taken in this order, so whatever one waits for is done or being done: the sums of
  // factor 0, then the sums of factor 1 and the additions of factor 0, and so on.
  const int64_t num_tasks = num_sums + num_adds;
  for_each_task(num_factors * num_tasks, [&](int64_t task) {
    if (failed) return;
    try {
      if (task < num_sums) return run(0, task);
      const int64_t turn = (task - num_sums) / num_tasks, i = (task - num_sums) % num_tasks;
      const bool last = turn + 1 == num_factors;
      if (i < num_sums && !last)
        run(turn + 1, i);
      else
        run(turn, last ? num_sums + i : i);
    } catch (...) {
      failed = true;
      throw;
    }
  });
}

template <typename T>
void grads_into(const ScoreTensors& in, int64_t site, const T* grad_out,
                std::array<Tensor, kNumScoreFloats>& grads) {
  const FactorScoreParams<T> params = params_of<T>(in, site);
  ScorePlan plan = plan_of(in);
  if (plan.chunks.empty()) return;
  plan_gradients(plan, params.num_candidates, params.num_rows, params.history_rows,
                 params.candidate_rows);
  const auto data = [&](ScoreFloat which) {
    return static_cast<T*>(grads[which].mutable_data_ptr());
  };
  const FactorScoreGrads<T> to{data(kQuery),     data(kKey),         data(kValue),
                               data(kResidual),  data(kPositionKey), data(kPositionValue),
                               data(kOutWeight), data(kFf1Weight),   data(kFf1Bias),
                               data(kFf2Weight), data(kFf2Bias),     data(kHeadWeight),
                               data(kHeadBias)};
  const ScoreKernels<T> kernels = score_kernels<T>();
  const int64_t num_chunks = static_cast<int64_t>(plan.chunks.size());
  std::vector<int64_t> begin(num_chunks + 1, 0);
  for (int64_t i = 0; i < num_chunks; ++i)
    begin[i + 1] = begin[i] + kernels.num_sums(params, plan.chunks[i]);
  Tensor sums = torch::stable::new_empty(in.floats[kQuery], {2 * begin[num_chunks]});
  T* block = static_cast<T*>(sums.mutable_data_ptr());
  const int64_t row_tasks = (params.num_rows + kRowsPerTask - 1) / kRowsPerTask;
  const auto sums_of = [&](int64_t factor, int64_t chunk) {
    return block + factor % 2 * begin[num_chunks] + begin[chunk];
  };
  const auto sum_chunk = [&](int64_t factor, int64_t i) {
    kernels.backward(params, plan, i, factor, grad_out, sums_of(factor, i));
  };
  const auto add_chunks = [&](int64_t factor, int64_t task) {
    const int64_t first = task * kRowsPerTask;
    const int64_t last = std::min(first + kRowsPerTask, params.num_rows);
    if (task < row_tasks) kernels.clear_rows(params, factor, first, last, to);
    for (int64_t i = 0; i < num_chunks; ++i) {
      if (task == row_tasks)
        kernels.add_weights(params, plan.chunks[i], factor, sums_of(factor, i), to);
      else
        kernels.add_rows(params, plan.chunks[i], factor, first, last, sums_of(factor, i), to);
    }
  };
  for_each_factor(params.num_factors, num_chunks, row_tasks + 1, sum_chunk, add_chunks);
}

Tensor factor_score(Tensor query, Tensor key, Tensor value, Tensor residual, Tensor position_key,
                    Tensor position_value, Tensor out_weight, Tensor ff1_weight, Tensor ff1_bias,
                    Tensor ff2_weight, Tensor ff2_bias, Tensor head_weight, Tensor head_bias,
                    Tensor history_rows, Tensor candidate_rows, Tensor positions, Tensor cu_seqlens,
                    int64_t max_history, std::optional<Tensor> rng, int64_t num_heads,
                    double dropout_p, int64_t site) {
  const ScoreTensors in = contiguous(
      "factor_score", {{query, key, value, residual, position_key, position_value, out_weight,
                        ff1_weight, ff1_bias, ff2_weight, ff2_bias, head_weight, head_bias},
                       history_rows,
                       candidate_rows,
                       positions,
                       cu_seqlens,
                       rng,
                       max_history,
                       num_heads,
                       dropout_p});
  Tensor out = torch::stable::new_empty(
      query, {in.candidate_rows.size(0), in.candidate_rows.size(1), query.size(0)});
  if (query.scalar_type() == ScalarType::Double)
    score_into<double>(in, site, static_cast<double*>(out.mutable_data_ptr()));
  else
    score_into<float>(in, site, static_cast<float*>(out.mutable_data_ptr()));
  return out;
}

using ScoreGradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                                  Tensor, Tensor, Tensor, Tensor, Tensor>;

ScoreGradients factor_score_backward(Tensor grad_out, Tensor query, Tensor key, Tensor value,
                                     Tensor residual, Tensor position_key, Tensor position_value,
                                     Tensor out_weight, Tensor ff1_weight, Tensor ff1_bias,
                                     Tensor ff2_weight, Tensor ff2_bias, Tensor head_weight,
                                     Tensor head_bias, Tensor history_rows, Tensor candidate_rows,
                                     Tensor positions, Tensor cu_seqlens, int64_t max_history,
                                     std::optional<Tensor> rng, int64_t num_heads, double dropout_p,
                                     int64_t site) {
  const char* op = "factor_score_backward";
  const ScoreTensors in =
      contiguous(op, {{query, key, value, residual, position_key, position_value, out_weight,
                       ff1_weight, ff1_bias, ff2_weight, ff2_bias, head_weight, head_bias},
                      history_rows,
                      candidate_rows,
                      positions,
                      cu_seqlens,
                      rng,
                      max_history,
                      num_heads,
                      dropout_p});
  check_score_grad(op, grad_out, in);
  const Tensor grad = torch::stable::contiguous(grad_out);
  std::array<Tensor, kNumScoreFloats> grads;
  for (int i = 0; i < kNumScoreFloats; ++i) {
    std::vector<int64_t> shape;
    for (int64_t j = 0; j < in.floats[i].dim(); ++j) shape.push_back(in.floats[i].size(j));
    // The kernels clear the tables' rows themselves, each shortly before it is added to.
    const bool is_table = i <= kResidual && in.positions.size(0) * in.candidate_rows.size(1) > 0;
    grads[i] = is_table ? torch::stable::new_empty(in.floats[i], shape)
                        : torch::stable::new_zeros(in.floats[i], shape);
  }
  if (query.scalar_type() == ScalarType::Double)
    grads_into<double>(in, site, grad.const_data_ptr<double>(), grads);
  else
    grads_into<float>(in, site, grad.const_data_ptr<float>(), grads);
  return std::tuple_cat(grads);
}

STABLE_TORCH_LIBRARY_IMPL(mfgan, CPU, m) {
  m.impl("factor_score", TORCH_BOX(&factor_score));
  m.impl("factor_score_backward", TORCH_BOX(&factor_score_backward));
}

}  // namespace
}  // namespace mfgan::cpu
