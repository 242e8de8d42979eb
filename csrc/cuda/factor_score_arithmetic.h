// The launches of factor_score by arithmetic: each one is instantiated in a file of its own, so
// that they build side by side.
#pragma once

#include "kernels/arithmetic.h"
#include "kernels/factor_score_params.h"

namespace mfgan::gpu {

// Blocks of scores over all factors: enough for every processor of the largest GPU to hold some.
constexpr int kScoreBlocks = 1 << 14;

// Blocks of the backward pass over scores, each with a part of the weights' gradients, and parts of
// the positions in the pass over distances. The order of the sums follows from these.
constexpr int kScoreGradBlocks = 264;
constexpr int64_t kPositionsInPart = 64;
constexpr int64_t kPositionParts = 64;

template <typename Arithmetic>
void run_score_forward(const ScoreParams& p, cudaStream_t stream);

// How many blocks leave a part in g.parts.
template <typename Arithmetic>
int score_grad_parts(const ScoreParams& p);

template <typename Arithmetic>
void run_score_backward(const ScoreGradParams& g, cudaStream_t stream);

}  // namespace mfgan::gpu
