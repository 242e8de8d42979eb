// What a warp of factor_score works on: one position and some of its candidates.
#pragma once

#include "kernels/factor_score_params.h"
#include "kernels/sessions.cuh"
#include "kernels/softmax.cuh"

namespace mfgan::gpu {

constexpr unsigned kWholeWarp = 0xffffffffu;

// A position and some of its candidates, at most kWarpRows.
struct ScoreUnit {
  int64_t first;  // score
  int num_scores;
  int history;         // tokens that the candidates see, at distances 1 to history
  int64_t last_token;  // the one at distance 1
};

struct TokenBounds {
  int64_t begin, end;
};

// The session of a token.
__device__ __forceinline__ TokenBounds session_around(const ScoreParams& p, int64_t token) {
  const int32_t* bounds = p.cu_seqlens + session_of(p.cu_seqlens, p.num_sessions, token);
  return {bounds[0], bounds[1]};
}

__device__ __forceinline__ int history_of(const ScoreParams& p, int64_t token) {
  const int64_t tokens = token - session_around(p, token).begin + 1;
  return static_cast<int>(min(tokens, static_cast<int64_t>(p.max_history)));
}

// Calls `body(unit)` for this warp's share of the units of scores `first` to `last - 1`.
template <typename Body>
__device__ __forceinline__ void for_each_unit(const ScoreParams& p, int64_t first, int64_t last,
                                              Body body) {
  const int num_warps = blockDim.x / 32, warp = threadIdx.x / 32;
  int index = 0;
  for (int64_t score = first, next; score < last; score = next, ++index) {
    const int64_t position = score / p.num_candidates;
    next = min(min((position + 1) * p.num_candidates, score + kWarpRows), last);
    if (index % num_warps != warp) continue;
    const int64_t token = p.positions[position];
    body(ScoreUnit{score, static_cast<int>(next - score), history_of(p, token), token});
  }
}

}  // namespace mfgan::gpu
