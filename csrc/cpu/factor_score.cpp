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
#include "cpu/scratch.h"
#include "factor_score_checks.h"
#include "rng.h"

namespace mfgan::cpu {
namespace {

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

// Calls work(factor, chunk) for every pair and then add(factor, chunk), the chunks of a factor in
// order: sums come out the same whichever thread is the first. What `work` leaves for `add` is its
// thread's own, so no more of it exists at a time than there are threads.
template <typename Work, typename Add>
void for_each_in_order(int64_t num_factors, int64_t num_chunks, const Work& work, const Add& add) {
  std::vector<std::atomic<int64_t>> added(num_factors);
  std::atomic<bool> failed{false};
  // Tasks are taken in this order, so the chunk before is done or being done.
  for_each_task(num_factors * num_chunks, [&](int64_t task) {
    const int64_t factor = task / num_chunks, chunk = task % num_chunks;
    if (failed) return;
    try {
      work(factor, chunk);
      while (added[factor].load(std::memory_order_acquire) < chunk && !failed)
        std::this_thread::yield();
      add(factor, chunk);
      added[factor].store(chunk + 1, std::memory_order_release);
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
  const auto sums_of = [&](int64_t chunk) {
    const int64_t size = kernels.num_sums(params, plan.chunks[chunk]);
    return static_cast<T*>(scratch(size * int64_t(sizeof(T))));
  };
  const auto sum_chunk = [&](int64_t factor, int64_t i) {
    kernels.backward(params, plan, i, factor, grad_out, sums_of(i));
  };
  const auto add_chunk = [&](int64_t factor, int64_t i) {
    if (i == 0) kernels.clear_rows(params, factor, to);
    kernels.add(params, plan.chunks[i], factor, sums_of(i), to);
  };
  for_each_in_order(params.num_factors, num_chunks, sum_chunk, add_chunk);
}

Tensor factor_score(Tensor query, Tensor key, Tensor value, Tensor residual, Tensor position_key,
                    Tensor position_value, Tensor out_weight, Tensor ff1_weight, Tensor ff1_bias,
                    Tensor ff2_weight, Tensor ff2_bias, Tensor head_weight, Tensor head_bias,
                    Tensor history_rows, Tensor candidate_rows, Tensor positions, Tensor cu_seqlens,
                    int64_t max_history, std::optional<Tensor> rng, int64_t num_heads,
                    double dropout_p, int64_t site, bool /*allow_tf32*/) {
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
                                     int64_t site, bool /*allow_tf32*/) {
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
