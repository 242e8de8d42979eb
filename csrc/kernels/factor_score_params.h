// What the factor_score kernels are given: plain pointers and sizes, nothing of torch.
#pragma once

#include <cstdint>

namespace mfgan::gpu {

// A score is one pair (position, candidate), numbered position * num_candidates + candidate. The
// floating arrays are contiguous, in the shapes of mfgan/ops/factor_score.py and in one type.
struct ScoreParams {
  const void *query, *key, *value, *residual;  // (F, U, D)
  const void *position_key, *position_value;   // (F, L, D)
  const void *out_weight, *ff1_weight, *ff1_bias, *ff2_weight, *ff2_bias, *head_weight, *head_bias;
  const int64_t *history_rows, *candidate_rows, *positions;
  const int32_t* cu_seqlens;
  const int64_t* rng;  // (2,) seed and offset, or null without dropout
  void* out;           // (num_scores, F)

  int64_t num_scores, num_rows, total_tokens;
  int num_sessions, num_factors, num_heads, head_dim, dim, width;
  int num_distances, num_candidates, max_history;
  bool aligned;  // every floating array starts on a multiple of 16 bytes
  float scale;
  uint32_t drop_threshold;
  float keep_scale;  // 1 / (1 - dropout_p)
  int64_t site;
};

}  // namespace mfgan::gpu
