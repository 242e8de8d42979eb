// The launches of factor_score by arithmetic: each one is instantiated in a file of its own, so
// that they build side by side.
#pragma once

#include "kernels/arithmetic.h"
#include "kernels/factor_score_params.h"

namespace mfgan::gpu {

// The largest D / num_heads, D and W: sixteen rows' features stay in shared memory together.
constexpr int kMaxScoreHeadDim = 128, kMaxScoreDim = 256, kMaxScoreWidth = 1024;

// Blocks of scores over all factors: enough for every processor of the largest GPU to hold some.
constexpr int kScoreBlocks = 1 << 14;

// Blocks of the backward pass over scores, each with a part of the weights' gradients, and parts of
// the positions in the pass over distances. The order of the sums follows from these.
constexpr int kScoreGradBlocks = 264;
constexpr int64_t kPositionsInPart = 64;
constexpr int64_t kPositionParts = 64;

inline ScorePart score_part(const ScoreParams& p) {
  const int64_t dim = p.dim, width = p.width;
  ScorePart part{};
  int64_t end = 0;
  const auto take = [&](int64_t& at, int64_t size) {
    at = end;
    end += size;
  };
  take(part.out_weight, dim * dim);
  take(part.ff1_weight, width * dim);
  take(part.ff1_bias, width);
  take(part.ff2_weight, dim * width);
  take(part.ff2_bias, dim);
  take(part.head_weight, dim);
  take(part.head_bias, 1);
  take(part.own_key, dim);
  take(part.own_value, dim);
  part.size = end;
  return part;
}

template <typename Arithmetic>
void run_score_forward(const ScoreParams& p, cudaStream_t stream);

// How many blocks leave a part in g.parts.
template <typename Arithmetic>
int score_grad_parts(const ScoreParams& p);

template <typename Arithmetic>
void run_score_backward(const ScoreGradParams& g, cudaStream_t stream);

}  // namespace mfgan::gpu
