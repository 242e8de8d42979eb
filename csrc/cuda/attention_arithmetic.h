// The launches of attention by arithmetic: each one is instantiated in a file of its own, so that
// they build side by side.
#pragma once

#include "kernels/arithmetic.h"
#include "kernels/attention_params.h"

namespace mfgan::gpu {

// Warps of a block where the tokens are many, and where they are few and every processor is wanted.
constexpr int kManyWarps = 4, kFewWarps = 1;
constexpr int64_t kFewRows = 512 * kManyWarps * 16;

inline int warps_for(const AttentionParams& p) {
  return p.total_tokens * p.num_heads < kFewRows ? kFewWarps : kManyWarps;
}

inline dim3 row_grid(const AttentionParams& p, int num_warps) {
  const int64_t rows = num_warps * 16;
  return dim3(static_cast<unsigned>((p.total_tokens + rows - 1) / rows),
              static_cast<unsigned>(p.num_heads));
}

template <typename Arithmetic>
void run_forward(const AttentionParams& p, cudaStream_t stream);

// Leaves a bias gradient in g.bias_parts, a part for each block of row_grid.
template <typename Arithmetic>
void run_backward(const AttentionGradParams& g, cudaStream_t stream);

}  // namespace mfgan::gpu
