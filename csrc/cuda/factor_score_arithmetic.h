// The launches of factor_score by arithmetic: each one is instantiated in a file of its own, so
// that they build side by side.
#pragma once

#include "kernels/arithmetic.h"
#include "kernels/factor_score_params.h"

namespace mfgan::gpu {

// Blocks of scores over all factors: enough for every processor of the largest GPU to hold some.
constexpr int kScoreBlocks = 1 << 14;

template <typename Arithmetic>
void run_score_forward(const ScoreParams& p, cudaStream_t stream);

}  // namespace mfgan::gpu
