// Attention inside each session of a packed batch: what one task of the CPU kernels needs to know.
#pragma once

#include <cstdint>

#include "cpu/element.h"

namespace mfgan::cpu {

// A (total_tokens, num_heads, head_dim) array with contiguous features; strides in elements.
struct Rows {
  const void* data = nullptr;
  int64_t token_stride = 0;
  int64_t head_stride = 0;
};

struct AttentionParams {
  int64_t total_tokens = 0;
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  const int32_t* cu_seqlens = nullptr;
  bool causal = true;
  double scale = 1;

  // (num_heads, num_distances), added to the logit at index min(|query - key|, num_distances - 1).
  const void* distance_bias = nullptr;
  int64_t num_distances = 0;

  // Bits below `drop_threshold` drop a weight; 0 keeps them all (rng.h).
  uint32_t drop_threshold = 0;
  double keep_scale = 1;
  int64_t seed = 0;
  int64_t offset = 0;
  int64_t site = 0;

  Rows q, k, v;
  Rows out;
  const void* lse = nullptr;  // (num_heads, total_tokens), natural logarithm
};

// What one task works on: sessions that lie side by side, and some of their heads.
struct AttentionRange {
  int64_t first_session = 0, last_session = 0;
  int64_t first_head = 0, last_head = 0;
};

// T is the element type of q, k, v, out and distance_bias; lse is Wide<T>.
template <typename T>
void attention_forward(const AttentionParams& params, const AttentionRange& range, T* out,
                       Wide<T>* lse);

// `grad_bias` (num_heads, num_distances), in float64 for its long sums, is added to, the other
// gradients are written; null where there is no bias.
template <typename T>
void attention_backward(const AttentionParams& params, const AttentionRange& range,
                        const Rows& grad_out, T* grad_q, T* grad_k, T* grad_v, double* grad_bias);

}  // namespace mfgan::cpu
