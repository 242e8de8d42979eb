// What the tensors of factor_score must be, in the order of its schema.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "checks.h"

namespace mfgan {

enum ScoreFloat {
  kQuery,
  kKey,
  kValue,
  kResidual,
  kPositionKey,
  kPositionValue,
  kOutWeight,
  kFf1Weight,
  kFf1Bias,
  kFf2Weight,
  kFf2Bias,
  kHeadWeight,
  kHeadBias,
  kNumScoreFloats
};

struct ScoreTensors {
  std::array<Tensor, kNumScoreFloats> floats;
  Tensor history_rows, candidate_rows, positions, cu_seqlens;
  std::optional<Tensor> rng;
  int64_t max_history = 0;
  int64_t num_heads = 0;
  double dropout_p = 0;
};

inline void check_score_shape(const char* op, const char* name, const Tensor& x,
                              const std::vector<int64_t>& shape) {
  bool same = x.dim() == static_cast<int64_t>(shape.size());
  for (int64_t i = 0; same && i < x.dim(); ++i) same = x.size(i) == shape[i];
  std::ostringstream wanted;
  for (size_t i = 0; i < shape.size(); ++i) wanted << (i ? ", " : "") << shape[i];
  MFGAN_CHECK(same, op, ": ", name, " must be (", wanted.str(), shape.size() == 1 ? ",)" : ")",
              ", got ", shape_of(x));
}

inline void check_score_indices(const char* op, const ScoreTensors& in) {
  const Tensor& query = in.floats[kQuery];
  const auto check = [&](const char* name, const Tensor& x, int64_t dims, ScalarType type) {
    MFGAN_CHECK(x.dim() == dims, op, ": ", name, " must have ", dims, " dimensions, got ",
                shape_of(x));
    MFGAN_CHECK(x.scalar_type() == type, op, ": ", name, " must be ",
                type == ScalarType::Long ? "int64" : "int32");
    check_same_device(op, name, x, query);
  };
  check("history_rows", in.history_rows, 1, ScalarType::Long);
  check("candidate_rows", in.candidate_rows, 2, ScalarType::Long);
  check("positions", in.positions, 1, ScalarType::Long);
  check("cu_seqlens", in.cu_seqlens, 1, ScalarType::Int);
  MFGAN_CHECK(in.candidate_rows.size(0) == in.positions.size(0), op,
              ": candidate_rows must have a row for each of ", in.positions.size(0),
              " positions, got ", in.candidate_rows.size(0));
  MFGAN_CHECK(in.cu_seqlens.size(0) >= 1, op, ": cu_seqlens must be (num_sessions + 1,), got ",
              shape_of(in.cu_seqlens));
}

// Half types are computed as they are on a GPU, and in float32 by the caller's choice on a CPU.
enum class ScoreKernelsOf { cpu, gpu };

inline void check_score_tensors(const char* op, const ScoreTensors& in, ScoreKernelsOf kernels) {
  const auto& x = in.floats;
  MFGAN_CHECK(x[kQuery].dim() == 3, op, ": query must be (F, U, D), got ", shape_of(x[kQuery]));
  MFGAN_CHECK(x[kPositionKey].dim() == 3, op, ": position_key must be (F, L, D), got ",
              shape_of(x[kPositionKey]));
  MFGAN_CHECK(x[kFf1Weight].dim() == 3, op, ": ff1_weight must be (F, W, D), got ",
              shape_of(x[kFf1Weight]));
  const int64_t f = x[kQuery].size(0), u = x[kQuery].size(1), d = x[kQuery].size(2);
  const int64_t distances = x[kPositionKey].size(1), w = x[kFf1Weight].size(1);
  check_score_shape(op, "key", x[kKey], {f, u, d});
  check_score_shape(op, "value", x[kValue], {f, u, d});
  check_score_shape(op, "residual", x[kResidual], {f, u, d});
  check_score_shape(op, "position_key", x[kPositionKey], {f, distances, d});
  check_score_shape(op, "position_value", x[kPositionValue], {f, distances, d});
  check_score_shape(op, "out_weight", x[kOutWeight], {f, d, d});
  check_score_shape(op, "ff1_weight", x[kFf1Weight], {f, w, d});
  check_score_shape(op, "ff1_bias", x[kFf1Bias], {f, w});
  check_score_shape(op, "ff2_weight", x[kFf2Weight], {f, d, w});
  check_score_shape(op, "ff2_bias", x[kFf2Bias], {f, d});
  check_score_shape(op, "head_weight", x[kHeadWeight], {f, d});
  check_score_shape(op, "head_bias", x[kHeadBias], {f});
  const ScalarType type = x[kQuery].scalar_type();
  if (kernels == ScoreKernelsOf::gpu) {
    MFGAN_CHECK(is_floating(type) && type != ScalarType::Double, op,
                ": query must be float32, bfloat16 or float16 on a GPU");
  } else {
    MFGAN_CHECK(type == ScalarType::Float || type == ScalarType::Double, op,
                ": query must be float32 or float64");
  }
  for (const Tensor& tensor : x) {
    MFGAN_CHECK(tensor.scalar_type() == type, op, ": floating tensors must share one dtype");
    check_same_device(op, "a floating tensor", tensor, x[kQuery]);
  }
  check_score_indices(op, in);
  MFGAN_CHECK(in.num_heads >= 1 && d >= 1 && d % in.num_heads == 0, op,
              ": num_heads must divide D = ", d, ", got ", in.num_heads);
  MFGAN_CHECK(in.max_history >= 1 && in.max_history < distances, op,
              ": max_history must be from 1 to ", distances - 1,
              ", one less than the rows of position_key, got ", in.max_history);
  check_dropout_p(op, in.dropout_p);
  if (in.rng) check_rng(op, *in.rng, x[kQuery]);
}

inline void check_score_grad(const char* op, const Tensor& grad_out, const ScoreTensors& in) {
  const Tensor& query = in.floats[kQuery];
  check_score_shape(op, "grad_out", grad_out,
                    {in.candidate_rows.size(0), in.candidate_rows.size(1), query.size(0)});
  MFGAN_CHECK(grad_out.scalar_type() == query.scalar_type(), op,
              ": grad_out must have the dtype of query");
  check_same_device(op, "grad_out", grad_out, query);
}

// Contents, read where they lie in host memory.
inline void check_score_contents(const char* op, const ScoreTensors& in) {
  const int64_t tokens = in.history_rows.size(0), rows = in.floats[kQuery].size(1);
  const auto check = [&](const char* name, const Tensor& x, int64_t end) {
    const int64_t* data = x.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < x.numel(); ++i)
      MFGAN_CHECK(data[i] >= 0 && data[i] < end, op, ": ", name, " must be from 0 to ", end - 1,
                  ", got ", data[i]);
  };
  check_session_bounds(op, in.cu_seqlens.const_data_ptr<int32_t>(), in.cu_seqlens.size(0) - 1,
                       tokens, INT32_MAX);
  check("history_rows", in.history_rows, rows);
  check("candidate_rows", in.candidate_rows, rows);
  check("positions", in.positions, tokens);
}

}  // namespace mfgan
