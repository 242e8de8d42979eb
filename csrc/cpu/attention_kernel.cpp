#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/attention.h"
#include "rng.h"

namespace mfgan::cpu {
namespace {

template <typename T>
const T* row(const Rows& rows, int64_t token, int64_t head) {
  return static_cast<const T*>(rows.data) + token * rows.token_stride + head * rows.head_stride;
}

template <typename T>
Wide<T> dot(const T* a, const T* b, int64_t n) {
  Wide<T> sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += load(a[i]) * load(b[i]);
  return sum;
}

template <typename T>
Wide<T> bias_at(const AttentionParams& p, int64_t head, int64_t query, int64_t key) {
  if (!p.distance_bias) return 0;
  const int64_t distance = std::min(std::abs(query - key), p.num_distances - 1);
  return load(static_cast<const T*>(p.distance_bias)[head * p.num_distances + distance]);
}

}  // namespace

template <typename T>
void attention_forward(const AttentionParams& p, int64_t session, int64_t head, T* out,
                       Wide<T>* lse) {
  using W = Wide<T>;
  const int64_t begin = p.cu_seqlens[session];
  const int64_t length = p.cu_seqlens[session + 1] - begin;
  std::vector<W> weights(length), sum(p.head_dim);
  for (int64_t i = 0; i < length; ++i) {
    const int64_t token = begin + i, keys = p.causal ? i + 1 : length;
    const T* q = row<T>(p.q, token, head);
    W largest = -INFINITY;
    for (int64_t j = 0; j < keys; ++j) {
      weights[j] = static_cast<W>(p.scale) * dot(q, row<T>(p.k, begin + j, head), p.head_dim) +
                   bias_at<T>(p, head, i, j);
      largest = std::max(largest, weights[j]);
    }
    W total = 0;
    for (int64_t j = 0; j < keys; ++j) total += weights[j] = std::exp(weights[j] - largest);
    lse[head * p.total_tokens + token] = largest + std::log(total);
    const RowKey key = row_key(p.seed, p.offset, p.site, token * p.num_heads + head);
    const W factor = static_cast<W>(p.keep_scale) / total;
    std::fill(sum.begin(), sum.end(), W(0));
    for (int64_t j = 0; j < keys; ++j) {
      if (!keeps(key, static_cast<uint32_t>(j), p.drop_threshold)) continue;
      const T* v = row<T>(p.v, begin + j, head);
      for (int64_t d = 0; d < p.head_dim; ++d) sum[d] += weights[j] * factor * load(v[d]);
    }
    T* to = out + (token * p.num_heads + head) * p.head_dim;
    for (int64_t d = 0; d < p.head_dim; ++d) store(to + d, sum[d]);
  }
}

template <typename T>
void attention_backward(const AttentionParams& p, int64_t session, int64_t head,
                        const Rows& grad_out, T* grad_q, T* grad_k, T* grad_v, double* grad_bias) {
  using W = Wide<T>;
  const int64_t begin = p.cu_seqlens[session];
  const int64_t length = p.cu_seqlens[session + 1] - begin, dim = p.head_dim;
  std::vector<W> dq(length * dim), dk(length * dim), dv(length * dim);
  std::vector<W> weights(length), kept_weights(length), grads(length);
  const W* lse = static_cast<const W*>(p.lse) + head * p.total_tokens + begin;
  for (int64_t i = 0; i < length; ++i) {
    const int64_t token = begin + i, keys = p.causal ? i + 1 : length;
    const T* q = row<T>(p.q, token, head);
    const T* grad = row<T>(grad_out, token, head);
    const RowKey key = row_key(p.seed, p.offset, p.site, token * p.num_heads + head);
    W mean = 0;
    for (int64_t j = 0; j < keys; ++j) {
      const W logit = static_cast<W>(p.scale) * dot(q, row<T>(p.k, begin + j, head), dim) +
                      bias_at<T>(p, head, i, j);
      const bool kept = keeps(key, static_cast<uint32_t>(j), p.drop_threshold);
      const W keep = kept ? static_cast<W>(p.keep_scale) : 0;
      weights[j] = std::exp(logit - lse[i]);
      kept_weights[j] = keep * weights[j];
      grads[j] = keep * dot(grad, row<T>(p.v, begin + j, head), dim);
      mean += weights[j] * grads[j];
    }
    for (int64_t j = 0; j < keys; ++j) {
      const T* k = row<T>(p.k, begin + j, head);
      const W grad_logit = weights[j] * (grads[j] - mean);
      if (grad_bias) grad_bias[std::min(std::abs(i - j), p.num_distances - 1)] += grad_logit;
      const W grad_score = grad_logit * static_cast<W>(p.scale);
      for (int64_t d = 0; d < dim; ++d) {
        dq[i * dim + d] += grad_score * load(k[d]);
        dk[j * dim + d] += grad_score * load(q[d]);
        dv[j * dim + d] += kept_weights[j] * load(grad[d]);
      }
    }
  }
  for (int64_t i = 0; i < length; ++i) {
    const int64_t at = ((begin + i) * p.num_heads + head) * dim;
    for (int64_t d = 0; d < dim; ++d) {
      store(grad_q + at + d, dq[i * dim + d]);
      store(grad_k + at + d, dk[i * dim + d]);
      store(grad_v + at + d, dv[i * dim + d]);
    }
  }
}

#define MFGAN_INSTANTIATE(T)                                                                     \
  template void attention_forward<T>(const AttentionParams&, int64_t, int64_t, T*, Wide<T>*);    \
  template void attention_backward<T>(const AttentionParams&, int64_t, int64_t, const Rows&, T*, \
                                      T*, T*, double*);
MFGAN_INSTANTIATE(float)
MFGAN_INSTANTIATE(double)
MFGAN_INSTANTIATE(BFloat16)
MFGAN_INSTANTIATE(Half)

}  // namespace mfgan::cpu
