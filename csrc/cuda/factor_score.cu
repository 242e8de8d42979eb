// factor_score on the GPU, or on its emulator: checks, buffers and launches.
#include <cmath>
#include <optional>

#include "cuda/factor_score_arithmetic.h"
#include "cuda/registration.h"
#include "factor_score_checks.h"
#include "rng.h"

namespace mfgan::gpu {
namespace {

constexpr int64_t kMaxHeadDim = 128;
// Sixteen rows' features stay in shared memory together.
constexpr int64_t kMaxDim = 256, kMaxWidth = 1024;

ScoreTensors read_tensors(const char* op, ScoreTensors in) {
  check_score_tensors(op, in, ScoreKernelsOf::gpu);
  const int64_t dim = in.floats[kQuery].size(2), width = in.floats[kFf1Weight].size(1);
  MFGAN_CHECK(dim / in.num_heads <= kMaxHeadDim, op, ": D / num_heads must be at most ",
              kMaxHeadDim, " on a GPU, got ", dim / in.num_heads);
  MFGAN_CHECK(dim <= kMaxDim && width <= kMaxWidth, op, ": D must be at most ", kMaxDim,
              " and W at most ", kMaxWidth, " on a GPU, got ", dim, " and ", width);
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

// Calls `body` with the arithmetic of a dtype.
template <typename Body>
void with_arithmetic(ScalarType type, Body body) {
  if (type == ScalarType::BFloat16) {
    body(Half<simt::bf16>());
  } else if (type == ScalarType::Half) {
    body(Half<simt::half>());
  } else {
    body(Exact());
  }
}

Tensor factor_score(Tensor query, Tensor key, Tensor value, Tensor residual, Tensor position_key,
                    Tensor position_value, Tensor out_weight, Tensor ff1_weight, Tensor ff1_bias,
                    Tensor ff2_weight, Tensor ff2_bias, Tensor head_weight, Tensor head_bias,
                    Tensor history_rows, Tensor candidate_rows, Tensor positions, Tensor cu_seqlens,
                    int64_t max_history, std::optional<Tensor> rng, int64_t num_heads,
                    double dropout_p, int64_t site) {
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
  with_arithmetic(query.scalar_type(), [&](auto arithmetic) {
    run_score_forward<decltype(arithmetic)>(p, stream_of(query));
  });
  MFGAN_CHECK_LAUNCH();
  return out;
}

}  // namespace
}  // namespace mfgan::gpu

MFGAN_DEVICE_OPS(m) { m.impl("factor_score", TORCH_BOX(&mfgan::gpu::factor_score)); }
