// factor_score on the GPU, or on its emulator: checks, buffers and launches.
#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <tuple>
#include <vector>

#include "cuda/factor_score_arithmetic.h"
#include "cuda/registration.h"
#include "cuda/with_arithmetic.h"
#include "factor_score_checks.h"
#include "rng.h"

namespace mfgan::gpu {
namespace {

ScoreTensors read_tensors(const char* op, ScoreTensors in) {
  check_score_tensors(op, in, ScoreKernelsOf::gpu);
  const int64_t dim = in.floats[kQuery].size(2), width = in.floats[kFf1Weight].size(1);
  MFGAN_CHECK(dim / in.num_heads <= kMaxScoreHeadDim, op, ": D / num_heads must be at most ",
              kMaxScoreHeadDim, " on a GPU, got ", dim / in.num_heads);
  MFGAN_CHECK(dim <= kMaxScoreDim && width <= kMaxScoreWidth, op, ": D must be at most ",
              kMaxScoreDim, " and W at most ", kMaxScoreWidth, " on a GPU, got ", dim, " and ",
              width);
  MFGAN_CHECK(width > 0, op, ": W must be positive, got 0");
  for (Tensor& x : in.floats) x = torch::stable::contiguous(x);
  for (Tensor* x : {&in.history_rows, &in.candidate_rows, &in.positions, &in.cu_seqlens})
    *x = torch::stable::contiguous(*x);
  return in;
}

ScoreParams params_of(const ScoreTensors& in, int64_t site) {
  const auto& x = in.floats;
  ScoreParams p{};
  const void** const arrays[kNumScoreFloats] = {
      &p.query,          &p.key,         &p.value,      &p.residual, &p.position_key,
      &p.position_value, &p.out_weight,  &p.ff1_weight, &p.ff1_bias, &p.ff2_weight,
      &p.ff2_bias,       &p.head_weight, &p.head_bias};
  p.aligned = true;
  for (int i = 0; i < kNumScoreFloats; ++i) {
    *arrays[i] = x[i].const_data_ptr();
    p.aligned = p.aligned && reinterpret_cast<uintptr_t>(*arrays[i]) % 16 == 0;
  }
  p.history_rows = in.history_rows.const_data_ptr<int64_t>();
  p.candidate_rows = in.candidate_rows.const_data_ptr<int64_t>();
  p.positions = in.positions.const_data_ptr<int64_t>();
  p.cu_seqlens = in.cu_seqlens.const_data_ptr<int32_t>();
  p.num_factors = static_cast<int>(x[kQuery].size(0));
  p.num_rows = x[kQuery].size(1);
  p.dim = static_cast<int>(x[kQuery].size(2));
  p.num_heads = static_cast<int>(in.num_heads);
  p.head_dim = p.dim / p.num_heads;
  p.width = static_cast<int>(x[kFf1Weight].size(1));
  p.num_distances = static_cast<int>(x[kPositionKey].size(1));
  p.num_candidates = static_cast<int>(in.candidate_rows.size(1));
  p.num_scores = in.candidate_rows.size(0) * in.candidate_rows.size(1);
  p.max_history = static_cast<int>(in.max_history);
  p.total_tokens = in.history_rows.size(0);
  p.num_sessions = static_cast<int>(in.cu_seqlens.size(0) - 1);
  p.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(p.head_dim)));
  p.keep_scale = 1.0f;
  if (in.rng && in.dropout_p > 0) {
    p.rng = in.rng->const_data_ptr<int64_t>();
    p.drop_threshold = drop_threshold(in.dropout_p);
    p.keep_scale = static_cast<float>(1 / (1 - in.dropout_p));
    p.site = site;
  }
  return p;
}

Tensor factor_score(Tensor query, Tensor key, Tensor value, Tensor residual, Tensor position_key,
                    Tensor position_value, Tensor out_weight, Tensor ff1_weight, Tensor ff1_bias,
                    Tensor ff2_weight, Tensor ff2_bias, Tensor head_weight, Tensor head_bias,
                    Tensor history_rows, Tensor candidate_rows, Tensor positions, Tensor cu_seqlens,
                    int64_t max_history, std::optional<Tensor> rng, int64_t num_heads,
                    double dropout_p, int64_t site, bool allow_tf32) {
  const ScoreTensors in = read_tensors(
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
  const DeviceGuard guard(query.get_device_index());
  ScoreParams p = params_of(in, site);
  Tensor out = torch::stable::new_empty(
      query, {candidate_rows.size(0), candidate_rows.size(1), query.size(0)});
  if (p.num_scores == 0 || p.num_factors == 0) return out;
  p.out = out.mutable_data_ptr();
  with_arithmetic(query.scalar_type(), allow_tf32, [&](auto arithmetic) {
    run_score_forward<decltype(arithmetic)>(p, stream_of(query));
  });
  MFGAN_CHECK_LAUNCH();
  return out;
}

// Ascending, equal values in their order: (values, where each stood).
std::tuple<Tensor, Tensor> sorted(const Tensor& x) {
  const Tensor flat = torch::stable::reshape(x, {x.numel()});
  StableIValue stack[] = {
      torch::stable::detail::from(flat), torch::stable::detail::from(std::optional<bool>(true)),
      torch::stable::detail::from(static_cast<int64_t>(0)), torch::stable::detail::from(false)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::sort", "stable", stack, TORCH_ABI_VERSION));
  return {torch::stable::detail::to<Tensor>(stack[0]), torch::stable::detail::to<Tensor>(stack[1])};
}

// Everything between the passes; it lives as long as this.
class GradBuffers {
 public:
  explicit GradBuffers(const ScoreTensors& in, ScoreGradParams& g) : like_(in.floats[kQuery]) {
    const ScoreParams& p = g.forward;
    const auto transposed = [&](ScoreFloat which) {
      const Tensor t = torch::stable::contiguous(torch::stable::transpose(in.floats[which], 1, 2));
      g.forward.aligned &= reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 == 0;
      return keep(t).const_data_ptr();
    };
    g.out_weight_t = transposed(kOutWeight);
    g.ff1_weight_t = transposed(kFf1Weight);
    g.ff2_weight_t = transposed(kFf2Weight);
    const auto sort = [&](const Tensor& x, const int64_t*& values, const int64_t*& order) {
      const auto [ascending, places] = sorted(x);
      values = keep(ascending).const_data_ptr<int64_t>();
      order = keep(places).const_data_ptr<int64_t>();
    };
    sort(in.positions, g.sorted_positions, g.position_order);
    sort(in.candidate_rows, g.sorted_candidates, g.candidate_order);
    sort(in.history_rows, g.sorted_history, g.history_order);
    const int64_t f = p.num_factors, s = p.num_scores, d = p.dim, h = p.num_heads;
    g.grad_attended = keep(torch::stable::new_empty(like_, {f, s, d})).mutable_data_ptr();
    for (float** x : {&g.grad_query, &g.grad_hidden}) *x = floats(f * s * d);
    for (float** x : {&g.lse, &g.delta, &g.own_weight, &g.own_grad}) *x = floats(f * s * h);
    for (float** x : {&g.token_key, &g.token_value}) *x = floats(f * p.total_tokens * d);
    const int64_t parts = g.num_position_parts * f * p.max_history * d;
    for (float** x : {&g.distance_key, &g.distance_value}) *x = floats(parts);
    g.parts = floats(g.num_parts * f * g.part.size);
    for (int64_t** x : {&g.candidate_bounds, &g.history_bounds}) {
      *x = keep(torch::stable::new_empty(like_, {p.num_rows + 1}, ScalarType::Long))
               .mutable_data_ptr<int64_t>();
    }
  }

 private:
  Tensor& keep(const Tensor& x) { return kept_.emplace_back(x); }
  float* floats(int64_t count) {
    return keep(torch::stable::new_empty(like_, {count}, ScalarType::Float))
        .mutable_data_ptr<float>();
  }

  Tensor like_;
  std::vector<Tensor> kept_;
};

using ScoreGradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                                  Tensor, Tensor, Tensor, Tensor, Tensor>;

ScoreGradients factor_score_backward(Tensor grad_out, Tensor query, Tensor key, Tensor value,
                                     Tensor residual, Tensor position_key, Tensor position_value,
                                     Tensor out_weight, Tensor ff1_weight, Tensor ff1_bias,
                                     Tensor ff2_weight, Tensor ff2_bias, Tensor head_weight,
                                     Tensor head_bias, Tensor history_rows, Tensor candidate_rows,
                                     Tensor positions, Tensor cu_seqlens, int64_t max_history,
                                     std::optional<Tensor> rng, int64_t num_heads, double dropout_p,
                                     int64_t site, bool allow_tf32) {
  const char* op = "factor_score_backward";
  const ScoreTensors in =
      read_tensors(op, {{query, key, value, residual, position_key, position_value, out_weight,
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
  const DeviceGuard guard(query.get_device_index());
  const Tensor grad = torch::stable::contiguous(grad_out);
  ScoreGradParams g{};
  g.forward = params_of(in, site);
  const ScoreParams& p = g.forward;
  const bool nothing = p.num_scores == 0 || p.num_factors == 0;
  std::array<Tensor, kNumScoreFloats> grads;
  void** const to[kNumScoreFloats] = {
      &g.to_query,          &g.to_key,         &g.to_value,      &g.to_residual, &g.to_position_key,
      &g.to_position_value, &g.to_out_weight,  &g.to_ff1_weight, &g.to_ff1_bias, &g.to_ff2_weight,
      &g.to_ff2_bias,       &g.to_head_weight, &g.to_head_bias};
  for (int i = 0; i < kNumScoreFloats; ++i) {
    grads[i] = torch::stable::empty_like(in.floats[i]);
    if (nothing) torch::stable::zero_(grads[i]);
    *to[i] = grads[i].mutable_data_ptr();
  }
  if (nothing) return std::tuple_cat(grads);
  g.grad_out = grad.const_data_ptr();
  g.part = score_part(p);
  const int64_t parts = (in.positions.size(0) + kPositionsInPart - 1) / kPositionsInPart;
  g.num_position_parts = static_cast<int>(std::min(parts, kPositionParts));
  with_arithmetic(query.scalar_type(), allow_tf32, [&](auto arithmetic) {
    g.num_parts = score_grad_parts<decltype(arithmetic)>(p);
    const GradBuffers buffers(in, g);
    run_score_backward<decltype(arithmetic)>(g, stream_of(query));
  });
  MFGAN_CHECK_LAUNCH();
  return std::tuple_cat(grads);
}

}  // namespace
}  // namespace mfgan::gpu

MFGAN_DEVICE_OPS(m) {
  m.impl("factor_score", TORCH_BOX(&mfgan::gpu::factor_score));
  m.impl("factor_score_backward", TORCH_BOX(&mfgan::gpu::factor_score_backward));
}
