// Which instantiation of the factor_score kernels serves an input, and its launches.
#pragma once

#include <algorithm>
#include <type_traits>

#include "cuda/factor_score_arithmetic.h"
#include "kernels/factor_score_forward.cuh"

namespace mfgan::gpu {

// Two blocks or more of this size share a processor.
constexpr size_t kScoreSharedBytes = 100 << 10;

// As many warps as their shared memory allows, but one at least.
template <typename SharedBytes>
int score_warps(SharedBytes shared_bytes) {
  int warps = kScoreWarps;
  while (warps > 1 && shared_bytes(warps) > kScoreSharedBytes) warps /= 2;
  return warps;
}

inline dim3 score_grid(const ScoreParams& p, int warps, int most_blocks) {
  const int64_t rows = warps * kWarpRows, tiles = (p.num_scores + rows - 1) / rows;
  const int64_t most = std::max(most_blocks / p.num_factors, 1);
  return dim3(static_cast<unsigned>(std::min(tiles, most)), static_cast<unsigned>(p.num_factors));
}

// Calls `body` with the head size that holds p.head_dim.
template <typename Body>
void with_score_dim(const ScoreParams& p, Body body) {
  if (p.head_dim <= 32) {
    body(std::integral_constant<int, 32>());
  } else if (p.head_dim <= 64) {
    body(std::integral_constant<int, 64>());
  } else {
    body(std::integral_constant<int, 128>());
  }
}

template <typename Arithmetic, int kDim>
void launch_score_forward(const ScoreParams& p, int most_blocks, cudaStream_t stream) {
  const auto bytes = [&](int n) { return score_forward_shared_bytes<Arithmetic, kDim>(p, n); };
  const int warps = score_warps(bytes);
  simt::launch(factor_score_forward<Arithmetic, kDim>, score_grid(p, warps, most_blocks),
               dim3(warps * 32), bytes(warps), stream, p);
}

template <typename Arithmetic>
void run_score_forward(const ScoreParams& p, cudaStream_t stream) {
  with_score_dim(p, [&](auto dim) {
    launch_score_forward<Arithmetic, decltype(dim)::value>(p, kScoreBlocks, stream);
  });
}

}  // namespace mfgan::gpu

#define MFGAN_INSTANTIATE_SCORE(arithmetic) \
  template void run_score_forward<arithmetic>(const ScoreParams&, cudaStream_t)
