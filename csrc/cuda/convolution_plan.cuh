// The launches of the convolution's kernels, without torch.
#pragma once

#include <algorithm>

#include "kernels/convolution.cuh"
#include "kernels/sum_parts.cuh"

namespace mfgan::gpu {

constexpr unsigned kTapThreads = 64, kTapSumThreads = 128;
constexpr int64_t kMostConvolveBlocks = 1 << 14;
// The taps' gradient is summed over chunks of tokens, and then over chunks: as many as keep a GPU
// busy, but no more than one thread adds up soon.
constexpr int kFewestChunkTokens = 64, kMostChunks = 256;

inline int chunk_tokens_of(int total_tokens) {
  return std::max(kFewestChunkTokens, (total_tokens + kMostChunks - 1) / kMostChunks);
}

inline int num_chunks_of(int total_tokens) {
  const int tokens = chunk_tokens_of(total_tokens);
  return (total_tokens + tokens - 1) / tokens;
}

// `aligned`: all arrays begin at a multiple of kWidestBytes.
template <typename Value, int kSign>
void launch_convolve(const ConvolutionParams& p, bool aligned, cudaStream_t stream) {
  const bool wide = aligned && p.width % kWidest<Value> == 0;
  const int64_t runs = (p.total_tokens + kRunTokens - 1) / kRunTokens;
  const int64_t threads = runs * (wide ? p.width / kWidest<Value> : p.width);
  const int64_t blocks =
      std::min((threads + kConvolveThreads - 1) / kConvolveThreads, kMostConvolveBlocks);
  const dim3 grid(static_cast<unsigned>(blocks)), block(kConvolveThreads);
  if (wide) {
    simt::launch(convolve<Value, kWidest<Value>, kSign>, grid, block, 0, stream, p);
  } else {
    simt::launch(convolve<Value, 1, kSign>, grid, block, 0, stream, p);
  }
}

// To `sums` (num_taps, width). p.parts holds num_chunks_of(total_tokens) of them.
template <typename Value>
void launch_tap_grads(const TapGradParams& p, float* sums, cudaStream_t stream) {
  const auto blocks = [](int64_t count, int64_t size) {
    return static_cast<unsigned>((count + size - 1) / size);
  };
  const auto num_chunks = static_cast<unsigned>(num_chunks_of(p.total_tokens));
  const dim3 grid(blocks(p.width, kTapThreads), num_chunks, blocks(p.num_taps, kGroupLags));
  simt::launch(convolution_tap_grads<Value>, grid, dim3(kTapThreads), 0, stream, p);
  const int num_values = p.num_taps * p.width;
  simt::launch(sum_parts, dim3(blocks(num_values, kTapSumThreads)), dim3(kTapSumThreads), 0, stream,
               static_cast<const float*>(p.parts), sums, static_cast<int>(num_chunks), num_values);
}

}  // namespace mfgan::gpu
