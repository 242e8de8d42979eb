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

// Where the gradients of one factor's weights and of its tables' distance 0 stand in a block's
// part.
struct ScorePart {
  int64_t out_weight, ff1_weight, ff1_bias, ff2_weight, ff2_bias, head_weight, head_bias;
  int64_t own_key, own_value;
  int64_t size;
};

// S = num_scores, T = total_tokens; everything is written on the way, nothing need be cleared.
struct ScoreGradParams {
  ScoreParams forward;
  const void* grad_out;  // (S, F)
  // out_weight, ff1_weight and ff2_weight with their last two dimensions exchanged.
  const void *out_weight_t, *ff1_weight_t, *ff2_weight_t;
  // Sorted, equal ones in their order: the values, and where each stood.
  const int64_t *sorted_positions, *position_order;
  const int64_t *sorted_candidates, *candidate_order;
  const int64_t *sorted_history, *history_order;

  void* grad_attended;                         // (F, S, D), of the inputs' type
  float *grad_query, *grad_hidden;             // (F, S, D)
  float *lse, *delta, *own_weight, *own_grad;  // (F, S, H); own: of the candidate itself
  float *token_key, *token_value;              // (F, T, D)
  float *distance_key, *distance_value;        // (num_position_parts, F, max_history, D)
  int64_t *candidate_bounds, *history_bounds;  // (U + 1,) where a row's entries begin
  float* parts;                                // (num_parts, F, part.size)
  ScorePart part;
  int num_parts, num_position_parts;

  void *to_query, *to_key, *to_value, *to_residual, *to_position_key, *to_position_value;
  void *to_out_weight, *to_ff1_weight, *to_ff1_bias, *to_ff2_weight, *to_ff2_bias;
  void *to_head_weight, *to_head_bias;
};

}  // namespace mfgan::gpu
