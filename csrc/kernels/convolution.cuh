// A depthwise causal convolution along packed sessions, and its gradients.
//
// A thread has a few neighbouring columns of a short run of tokens. From one lag to the next the
// rows that the run reads move on by one, so that all but one are in its registers already.
#pragma once

#include <cstdint>

#include "kernels/sessions.cuh"
#include "kernels/wide_values.h"

namespace mfgan::gpu {

constexpr int kConvolveThreads = 128, kConvolveBlocks = 5;  // a block, on a multiprocessor
constexpr int kRunTokens = 4;
constexpr int kGroupLags = 8;

struct ConvolutionParams {
  const void* x;     // (total_tokens, width)
  const void* taps;  // (num_taps, width)
  const int32_t* cu_seqlens;
  void* out;
  int total_tokens, num_sessions, num_taps, width;
};

struct TapGradParams {
  const void* x;
  const void* grad;  // as x
  const int32_t* cu_seqlens;
  float* parts;  // (chunks, num_taps, width)
  int total_tokens, chunk_tokens, num_sessions, num_taps, width;
};

// Goes over tokens in their order and says where the session of each lies. Bounds that end too
// early lead nowhere beyond them.
struct SessionWalk {
  const int32_t* cu_seqlens;
  int num_sessions, session;

  __device__ __forceinline__ SessionWalk(const int32_t* bounds, int count, int token)
      : cu_seqlens(bounds), num_sessions(count), session(session_of(bounds, count, token)) {}

  __device__ __forceinline__ void on_to(int token) {
    while (session + 1 < num_sessions && cu_seqlens[session + 1] <= token) ++session;
  }
  __device__ __forceinline__ int begin() const { return cu_seqlens[session]; }
  __device__ __forceinline__ int end() const { return cu_seqlens[session + 1]; }
};

// out[t] = x[t] + sum_d taps[d] x[t - kSign d], as far as the session reaches. The grid may be
// capped.
template <typename Value, int kWidth, int kSign>
__global__ void __launch_bounds__(kConvolveThreads, kConvolveBlocks) convolve(ConvolutionParams p) {
  using Part = WideValues<Value, kWidth>;
  const auto* x = static_cast<const Part*>(p.x);
  const auto* taps = static_cast<const Part*>(p.taps);
  const int row_parts = p.width / kWidth;
  const int64_t count =
      static_cast<int64_t>((p.total_tokens + kRunTokens - 1) / kRunTokens) * row_parts;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    const int lowest = static_cast<int>(i / row_parts) * kRunTokens;
    const int part = static_cast<int>(i % row_parts);
    // Row r of the run is that token whose lag d is what row r + 1 has at lag d + 1.
    const int first = kSign > 0 ? lowest : lowest + kRunTokens - 1;
    const auto row_at = [&](int token) {
      const bool there = token >= 0 && token < p.total_tokens;
      return there ? x[static_cast<int64_t>(token) * row_parts + part] : Part{};
    };
    SessionWalk walk(p.cu_seqlens, p.num_sessions, lowest);
    int reach[kRunTokens], longest = 0;
    Part rows[kRunTokens];
    float sum[kRunTokens][kWidth];
#pragma unroll
    for (int k = 0; k < kRunTokens; ++k) {
      const int r = kSign > 0 ? k : kRunTokens - 1 - k;
      const int token = lowest + k;
      walk.on_to(token);
      reach[r] = kSign > 0 ? token - walk.begin() + 1 : walk.end() - token;
      if (token >= p.total_tokens) reach[r] = 0;
      longest = max(longest, reach[r]);
      rows[r] = row_at(token);
#pragma unroll
      for (int c = 0; c < kWidth; ++c) sum[r][c] = simt::to_float(rows[r].x[c]);
    }
    const int num_lags = min(longest, p.num_taps);
#pragma unroll 1  // two lags at once would take more registers than five blocks have
    for (int d = 0; d < num_lags; ++d) {
      if (d > 0) {
#pragma unroll
        for (int r = kRunTokens - 1; r > 0; --r) rows[r] = rows[r - 1];
        rows[0] = row_at(first - kSign * d);
      }
      const Part tap = taps[d * row_parts + part];
#pragma unroll
      for (int r = 0; r < kRunTokens; ++r) {
        if (d >= reach[r]) continue;
#pragma unroll
        for (int c = 0; c < kWidth; ++c) {
          sum[r][c] += simt::to_float(tap.x[c]) * simt::to_float(rows[r].x[c]);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRunTokens; ++r) {
      const int token = first + kSign * r;
      if (token >= p.total_tokens) continue;
      Part out;
#pragma unroll
      for (int c = 0; c < kWidth; ++c) out.x[c] = simt::from_float<Value>(sum[r][c]);
      static_cast<Part*>(p.out)[static_cast<int64_t>(token) * row_parts + part] = out;
    }
  }
}

// parts[chunk][d] = sum_t grad[t] x[t - d] over the tokens of a chunk. Grid: columns, chunks, and
// groups of lags.
template <typename Value>
__global__ void convolution_tap_grads(TapGradParams p) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= p.width) return;
  const int first_lag = blockIdx.z * kGroupLags;
  const int first = blockIdx.y * p.chunk_tokens;
  const int last = min(first + p.chunk_tokens, p.total_tokens);
  const auto* x = static_cast<const Value*>(p.x);
  const auto* grad = static_cast<const Value*>(p.grad);
  const auto value_at = [&](int token) {
    return token < 0 ? 0.0f : simt::to_float(x[static_cast<int64_t>(token) * p.width + column]);
  };
  float seen[kGroupLags], sum[kGroupLags];  // seen: at the lags of the group, from the token
#pragma unroll
  for (int j = 0; j < kGroupLags; ++j) {
    seen[j] = value_at(first - 1 - first_lag - j);
    sum[j] = 0.0f;
  }
  SessionWalk walk(p.cu_seqlens, p.num_sessions, first);
  for (int token = first; token < last; ++token) {
#pragma unroll
    for (int j = kGroupLags - 1; j > 0; --j) seen[j] = seen[j - 1];
    seen[0] = value_at(token - first_lag);
    walk.on_to(token);
    const int reach = token - walk.begin() + 1 - first_lag;
    const float of = simt::to_float(grad[static_cast<int64_t>(token) * p.width + column]);
#pragma unroll
    for (int j = 0; j < kGroupLags; ++j) {
      if (j < reach) sum[j] += of * seen[j];
    }
  }
#pragma unroll
  for (int j = 0; j < kGroupLags; ++j) {
    const int lag = first_lag + j;
    if (lag >= p.num_taps) break;
    p.parts[(blockIdx.y * static_cast<int64_t>(p.num_taps) + lag) * p.width + column] = sum[j];
  }
}

}  // namespace mfgan::gpu
