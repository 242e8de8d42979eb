// Which instantiation of the factor_score kernels serves an input, and its launches.
#pragma once

#include <algorithm>
#include <type_traits>

#include "cuda/factor_score_arithmetic.h"
#include "kernels/factor_score_grad_rows.cuh"
#include "kernels/factor_score_sums.cuh"

namespace mfgan::gpu {

// The most that a block may have on GPUs of sm_86, sm_89 and sm_120; larger ones hold two of them.
constexpr size_t kScoreSharedBytes = 99 << 10;
constexpr size_t kScoreSumBytes = sizeof(TableSums) * kSumThreads;

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

template <typename Arithmetic, int kDim>
int grad_rows_warps(const ScoreParams& p) {
  return score_warps([&](int n) { return score_grad_rows_shared_bytes<Arithmetic, kDim>(p, n); });
}

template <typename Arithmetic>
int score_grad_parts(const ScoreParams& p) {
  int parts = 0;
  with_score_dim(p, [&](auto dim) {
    const int warps = grad_rows_warps<Arithmetic, decltype(dim)::value>(p);
    parts = static_cast<int>(score_grid(p, warps, kScoreGradBlocks).x);
  });
  return parts;
}

template <typename Arithmetic, int kDim, typename Keys>
void launch_grad_keys(const ScoreGradParams& g, int64_t num_keys, int chunks, float* to_keys,
                      float* to_values, cudaStream_t stream) {
  const ScoreParams& p = g.forward;
  const int64_t keys_of_block = kScoreWarps * kWarpRows;
  const auto blocks = static_cast<unsigned>((num_keys + keys_of_block - 1) / keys_of_block);
  const dim3 grid(blocks, static_cast<unsigned>(p.num_heads),
                  static_cast<unsigned>(p.num_factors * chunks));
  simt::launch(factor_score_grad_keys<Arithmetic, kDim, Keys>, grid, dim3(kScoreWarps * 32),
               kScoreWarps * kScoreGradKeysBytes<Arithmetic, kDim>, stream, g, num_keys, chunks,
               to_keys, to_values);
}

template <typename Value>
void launch_score_sums(const ScoreGradParams& g, cudaStream_t stream) {
  const ScoreParams& p = g.forward;
  const auto grid = [&](int64_t threads, int factors) {
    return dim3(static_cast<unsigned>((threads + kSumThreads - 1) / kSumThreads),
                static_cast<unsigned>(factors));
  };
  const dim3 block(kSumThreads);
  simt::launch(score_row_bounds, grid(p.num_rows + 1, 1), block, 0, stream, g);
  simt::launch(score_table_grads<Value>,
               dim3(static_cast<unsigned>(p.num_rows), static_cast<unsigned>(p.num_factors)), block,
               kScoreSumBytes, stream, g);
  simt::launch(score_weight_grads<Value>, grid(g.part.size, p.num_factors), block, 0, stream, g);
  simt::launch(score_position_grads<Value>,
               grid(static_cast<int64_t>(p.num_distances - 1) * p.dim, p.num_factors), block, 0,
               stream, g);
}

template <typename Arithmetic, int kDim>
void launch_score_backward(const ScoreGradParams& g, cudaStream_t stream) {
  const ScoreParams& p = g.forward;
  const int warps = grad_rows_warps<Arithmetic, kDim>(p);
  simt::launch(factor_score_grad_rows<Arithmetic, kDim>,
               dim3(static_cast<unsigned>(g.num_parts), static_cast<unsigned>(p.num_factors)),
               dim3(warps * 32), score_grad_rows_shared_bytes<Arithmetic, kDim>(p, warps), stream,
               g);
  launch_grad_keys<Arithmetic, kDim, TokenKeys>(g, p.total_tokens, 1, g.token_key, g.token_value,
                                                stream);
  launch_grad_keys<Arithmetic, kDim, DistanceKeys>(g, p.max_history, g.num_position_parts,
                                                   g.distance_key, g.distance_value, stream);
  launch_score_sums<typename Arithmetic::Value>(g, stream);
}

template <typename Arithmetic>
void run_score_backward(const ScoreGradParams& g, cudaStream_t stream) {
  with_score_dim(g.forward, [&](auto dim) {
    launch_score_backward<Arithmetic, decltype(dim)::value>(g, stream);
  });
}

}  // namespace mfgan::gpu

#define MFGAN_INSTANTIATE_SCORE(arithmetic)                                      \
  template void run_score_forward<arithmetic>(const ScoreParams&, cudaStream_t); \
  template int score_grad_parts<arithmetic>(const ScoreParams&);                 \
  template void run_score_backward<arithmetic>(const ScoreGradParams&, cudaStream_t)
