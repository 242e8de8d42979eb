// Which instantiation of the attention kernels serves an input, and its launches.
#pragma once

#include <type_traits>

#include "cuda/attention_arithmetic.h"
#include "kernels/attention_backward.cuh"

namespace mfgan::gpu {

// Columns of a tile, two stages of which leave room for several blocks on a multiprocessor.
template <typename Arithmetic, int kDim, int kWarps>
constexpr int forward_columns() {
  constexpr int kRowBytes = kDim * static_cast<int>(sizeof(typename Arithmetic::Value));
  constexpr int kMany = kRowBytes <= 128 ? 64 : kRowBytes <= 256 ? 32 : 16;
  return kWarps == kFewWarps && kMany > 32 ? 32 : kMany;
}

// Backward keeps two tiles of logits in registers.
template <typename Arithmetic, int kDim>
constexpr int backward_columns() {
  constexpr int kRowBytes = kDim * static_cast<int>(sizeof(typename Arithmetic::Value));
  return kRowBytes <= 128 ? 32 : 16;
}

template <typename Arithmetic, int kDim, int kWarps>
void launch_forward(const AttentionParams& p, cudaStream_t stream) {
  constexpr int kColumns = forward_columns<Arithmetic, kDim, kWarps>();
  simt::launch(attention_forward<Arithmetic, kDim, kWarps, kColumns>, row_grid(p, kWarps),
               dim3(kWarps * 32),
               attention_forward_shared_bytes<Arithmetic, kDim, kWarps, kColumns>(), stream, p);
}

template <typename Arithmetic, int kDim, int kWarps>
void launch_backward(const AttentionGradParams& g, cudaStream_t stream) {
  constexpr int kColumns = backward_columns<Arithmetic, kDim>();
  const dim3 grid = row_grid(g.forward, kWarps), block(kWarps * 32);
  simt::launch(attention_grad_query<Arithmetic, kDim, kWarps, kColumns>, grid, block,
               attention_grad_query_shared_bytes<Arithmetic, kDim, kWarps, kColumns>(g.bias_parts),
               stream, g);
  simt::launch(attention_grad_key<Arithmetic, kDim, kWarps, kColumns>, grid, block,
               attention_grad_key_shared_bytes<Arithmetic, kDim, kWarps, kColumns>(), stream, g);
}

// Calls `body` with the head size that holds p.head_dim and the number of warps for its tokens.
template <typename Body>
void with_tile_sizes(const AttentionParams& p, Body body) {
  const auto with_warps = [&](auto dim) {
    if (warps_for(p) == kFewWarps) {
      body(dim, std::integral_constant<int, kFewWarps>());
    } else {
      body(dim, std::integral_constant<int, kManyWarps>());
    }
  };
  if (p.head_dim <= 32) {
    with_warps(std::integral_constant<int, 32>());
  } else if (p.head_dim <= 64) {
    with_warps(std::integral_constant<int, 64>());
  } else {
    with_warps(std::integral_constant<int, 128>());
  }
}

template <typename Arithmetic>
void run_forward(const AttentionParams& p, cudaStream_t stream) {
  with_tile_sizes(p, [&](auto dim, auto warps) {
    launch_forward<Arithmetic, decltype(dim)::value, decltype(warps)::value>(p, stream);
  });
}

template <typename Arithmetic>
void run_backward(const AttentionGradParams& g, cudaStream_t stream) {
  with_tile_sizes(g.forward, [&](auto dim, auto warps) {
    launch_backward<Arithmetic, decltype(dim)::value, decltype(warps)::value>(g, stream);
  });
}

}  // namespace mfgan::gpu

#define MFGAN_INSTANTIATE_ATTENTION(arithmetic)                                \
  template void run_forward<arithmetic>(const AttentionParams&, cudaStream_t); \
  template void run_backward<arithmetic>(const AttentionGradParams&, cudaStream_t)
