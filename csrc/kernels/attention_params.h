// What the attention kernels are given: plain pointers and sizes, nothing of torch.
#pragma once

#include <cstdint>

namespace mfgan::gpu {

// q, k and v are (total_tokens, num_heads, head_dim) with a token stride of their own each, so that
// the three parts of one packed projection need no copy; everything else is contiguous.
struct AttentionParams {
  const void* q;
  const void* k;
  const void* v;
  int64_t q_stride, k_stride, v_stride;  // values from one token to the next
  const int32_t* cu_seqlens;             // (num_sessions + 1,)
  const float* distance_bias;            // (num_heads, num_distances) or null
  const int64_t* rng;                    // (2,) seed and offset, or null without dropout
  void* out;                             // (total_tokens, num_heads, head_dim)
  float* lse;                            // (num_heads, total_tokens)

  int64_t total_tokens;
  int num_sessions, num_heads, head_dim, num_distances;
  bool causal;
  int load_bytes;  // 16, 8 or 4 where all rows and heads begin on multiples of it, else less
  float scale;
  uint32_t drop_threshold;
  float keep_scale;  // 1 / (1 - dropout_p)
  int64_t site;
};

struct AttentionGradParams {
  AttentionParams forward;
  const void* grad_out;
  void* grad_q;  // contiguous, like the next two
  void* grad_k;
  void* grad_v;
  float* delta;       // (num_heads, total_tokens): grad_out . out of each row, written on the way
  float* bias_parts;  // (num_row_blocks, num_heads, num_distances), or null without a bias
};

}  // namespace mfgan::gpu
