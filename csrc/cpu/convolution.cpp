#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <vector>

#include "checks.h"
#include "cpu/dispatch.h"

namespace mfgan::cpu {
namespace {

constexpr int64_t kElementsPerThread = 16384;
constexpr int64_t kColumns = 32;  // of the taps' gradient, summed by one thread
constexpr int64_t kTokens = 256;  // summed by themselves first, so that sums of many stay exact

struct Sessions {
  const int32_t* bounds;
  int64_t count;

  Sessions(const char* op, const Tensor& cu_seqlens, int64_t total_tokens)
      : bounds(cu_seqlens.const_data_ptr<int32_t>()), count(cu_seqlens.size(0) - 1) {
    check_session_bounds(op, bounds, count, total_tokens, total_tokens);
  }

  // Calls run(token, start, end) with the bounds of the session that each token is in.
  template <typename Run>
  void each(int64_t first, int64_t last, const Run& run) const {
    const int32_t* end = std::upper_bound(bounds, bounds + count + 1, int32_t(first));
    for (int64_t token = first; token < last; ++token) {
      while (*end <= token) ++end;
      run(token, int64_t(end[-1]), int64_t(*end));
    }
  }
};

template <typename T>
std::vector<Wide<T>> widened(const Tensor& x) {
  const Tensor from = torch::stable::contiguous(x);
  const T* data = static_cast<const T*>(from.const_data_ptr());
  std::vector<Wide<T>> wide(x.numel());
  for (int64_t i = 0; i < x.numel(); ++i) wide[i] = load(data[i]);
  return wide;
}

// out[t] = x[t] + sum_d taps[d] * x[t - kSign * d], as far as the session reaches.
template <int kSign, typename T>
void convolve(const Sessions& sessions, const T* x, const std::vector<Wide<T>>& taps,
              int64_t num_taps, int64_t width, int64_t num_tokens, T* out) {
  using W = Wide<T>;
  const int64_t grain = std::max<int64_t>(1, kElementsPerThread / std::max<int64_t>(1, width));
  torch::stable::parallel_for(0, num_tokens, grain, [&](int64_t first, int64_t last) {
    std::vector<W> sum(width);
    sessions.each(first, last, [&](int64_t token, int64_t start, int64_t end) {
      const T* here = x + token * width;
      for (int64_t c = 0; c < width; ++c) sum[c] = load(here[c]);
      const int64_t reach = kSign > 0 ? token - start + 1 : end - token;
      for (int64_t d = 0; d < std::min(num_taps, reach); ++d) {
        const T* there = here - kSign * d * width;
        const W* tap = taps.data() + d * width;
        for (int64_t c = 0; c < width; ++c) sum[c] += tap[c] * load(there[c]);
      }
      for (int64_t c = 0; c < width; ++c) store(out + token * width + c, sum[c]);
    });
  });
}

// grad_taps[d] = sum_t grad[t] * x[t - d]. A column's sum is one thread's, in the tokens' order.
template <typename T>
void taps_gradient(const Sessions& sessions, const T* grad, const T* x, int64_t num_taps,
                   int64_t width, int64_t num_tokens, T* out) {
  using W = Wide<T>;
  const int64_t blocks = (width + kColumns - 1) / kColumns;
  torch::stable::parallel_for(0, blocks, 1, [&](int64_t first_block, int64_t last_block) {
    std::vector<W> part(num_taps * kColumns), total(num_taps * kColumns);
    for (int64_t block = first_block; block < last_block; ++block) {
      const int64_t column = block * kColumns, columns = std::min(kColumns, width - column);
      std::fill(total.begin(), total.end(), W(0));
      for (int64_t first = 0; first < num_tokens; first += kTokens) {
        std::fill(part.begin(), part.end(), W(0));
        sessions.each(first, std::min(first + kTokens, num_tokens),
                      [&](int64_t token, int64_t start, int64_t) {
                        const T* of = grad + token * width + column;
                        for (int64_t d = 0; d < std::min(num_taps, token - start + 1); ++d) {
                          const T* there = x + (token - d) * width + column;
                          W* sum = part.data() + d * kColumns;
                          for (int64_t c = 0; c < columns; ++c)
                            sum[c] += load(of[c]) * load(there[c]);
                        }
                      });
        for (size_t i = 0; i < total.size(); ++i) total[i] += part[i];
      }
      for (int64_t d = 0; d < num_taps; ++d)
        for (int64_t c = 0; c < columns; ++c)
          store(out + d * width + column + c, total[d * kColumns + c]);
    }
  });
}

Tensor causal_convolution(Tensor x, Tensor taps, Tensor cu_seqlens) {
  const char* op = "causal_convolution";
  check_convolution(op, x, taps, cu_seqlens);
  const int64_t tokens = x.size(0), width = x.size(1);
  const Sessions sessions(op, cu_seqlens, tokens);
  const Tensor from = torch::stable::contiguous(x);
  Tensor out = torch::stable::new_empty(from, {tokens, width});
  with_element_type(x.scalar_type(), [&](auto type) {
    using T = typename decltype(type)::type;
    convolve<1>(sessions, static_cast<const T*>(from.const_data_ptr()), widened<T>(taps),
                taps.size(0), width, tokens, static_cast<T*>(out.mutable_data_ptr()));
  });
  return out;
}

std::tuple<Tensor, Tensor> causal_convolution_backward(Tensor grad_out, Tensor x, Tensor taps,
                                                       Tensor cu_seqlens) {
  const char* op = "causal_convolution_backward";
  check_convolution(op, x, taps, cu_seqlens);
  check_convolution_grad(op, grad_out, x);
  const int64_t tokens = x.size(0), width = x.size(1), num_taps = taps.size(0);
  const Sessions sessions(op, cu_seqlens, tokens);
  const Tensor from = torch::stable::contiguous(x), grads = torch::stable::contiguous(grad_out);
  Tensor grad_x = torch::stable::new_empty(from, {tokens, width});
  Tensor grad_taps = torch::stable::new_empty(from, {num_taps, width});
  with_element_type(x.scalar_type(), [&](auto type) {
    using T = typename decltype(type)::type;
    const T* grad = static_cast<const T*>(grads.const_data_ptr());
    convolve<-1>(sessions, grad, widened<T>(taps), num_taps, width, tokens,
                 static_cast<T*>(grad_x.mutable_data_ptr()));
    taps_gradient(sessions, grad, static_cast<const T*>(from.const_data_ptr()), num_taps, width,
                  tokens, static_cast<T*>(grad_taps.mutable_data_ptr()));
  });
  return {grad_x, grad_taps};
}

STABLE_TORCH_LIBRARY_IMPL(mfgan, CPU, m) {
  m.impl("causal_convolution", TORCH_BOX(&causal_convolution));
  m.impl("causal_convolution_backward", TORCH_BOX(&causal_convolution_backward));
}

}  // namespace
}  // namespace mfgan::cpu
