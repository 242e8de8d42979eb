// Backward pass of one session and head. Follows attention_products.inl.

namespace mfgan::cpu::MFGAN_ISA {

template <typename T>
struct BackwardArrays {
  using W = Wide<T>;
  Input<T> q, k, v, grad_out;
  Output<T> grad_q, grad_k, grad_v;
  W *query_columns, *grad_columns;
  W *weights, *grads;  // [key][query]
  W *bias, *grad_bias;

  BackwardArrays(const Task<W>& t, const Rows& grad, T* to_q, T* to_k, T* to_v, Carver& c)
      : q(t, t.params.q, c),
        k(t, t.params.k, c),
        v(t, t.params.v, c),
        grad_out(t, grad, c),
        grad_q(t, to_q, c),
        grad_k(t, to_k, c),
        grad_v(t, to_v, c),
        query_columns(c.take<W>(t.dim * t.width())),
        grad_columns(c.take<W>(t.dim * t.width())),
        weights(c.take<W>(t.length * t.width())),
        grads(c.take<W>(t.length * t.width())),
        bias(c.take<W>(t.num_distances)),
        grad_bias(c.take<W>(t.num_distances)) {}
};

template <typename W>
struct VectorOfQueries {
  int64_t first, stride;
  W scale;     // brings the scores to units of log 2
  Vec<W> lse;  // in these units
  Words<W> start, flip;
  uint32_t threshold;
  W keep_scale;
};

// Over the keys of a vector of queries. The weights sum to 1 but for the rounding of `lse`, which
// is coarse where logits are large and would leave a gradient where there is none.
template <typename W>
struct Sums {
  Vec<W> weights{}, products{};

  void add(Vec<W> weight, Vec<W> grad) {
    weights += weight;
    products += weight * grad;
  }
};

// Weights before dropout, negative where dropped, in place of the scores; gradients of those
// weights in place of the gradients of dropped ones.
template <bool kDropout, bool kDiagonal, typename W>
inline void weights_again(const VectorOfQueries<W>& q, int64_t begin, int64_t end, W* weights,
                          W* grads, Sums<W>& sums) {
  for (int64_t key = begin; key < end; ++key) {
    W* at = weights + key * q.stride;
    Vec<W> weight = exp2_of(load(at) * q.scale - q.lse);
    Vec<W> grad = load(grads + key * q.stride);
    if constexpr (kDiagonal) weight = sees<W>(q.first, key) ? weight : Vec<W>{};
    if constexpr (kDropout) {
      const Words<W> words = random_words<W>(q.start, q.flip, Words<W>{} + uint32_t(key));
      grad = kept_or_zero<W>(words, q.threshold, grad * q.keep_scale);
      store(grads + key * q.stride, grad);
      sums.add(weight, grad);
      weight = kept_or_negative<W>(words, q.threshold, weight);
    } else {
      sums.add(weight, grad);
    }
    store(at, weight);
  }
}

// Gradients of the logits in place of those of the weights; weights after dropout, but for
// keep_scale, in place of the signed ones.
template <bool kDropout, typename W>
inline void grads_of_logits(int64_t end, int64_t stride, const Sums<W>& sums, W* weights,
                            W* grads) {
  // Lanes that are no queries have no weights at all.
  const Vec<W> total = larger<W>(all(W(1e-30)), sums.weights);
  const Vec<W> mean = sums.products / total, factor = W(1) / total;
  for (int64_t key = 0; key < end; ++key, weights += stride, grads += stride) {
    const Vec<W> weight = load(weights) * factor;
    if constexpr (kDropout) {
      const Vec<W> size = weight < W(0) ? -weight : weight;
      store(grads, size * (load(grads) - mean));
      store(weights, larger<W>(Vec<W>{}, weight));
    } else {
      store(grads, weight * (load(grads) - mean));
      store(weights, weight);
    }
  }
}

template <bool kDropout, typename T, typename W>
inline void softmax_backward(const Task<W>& t, const Block<W>& b, const BackwardArrays<T>& a) {
  constexpr int64_t lanes = kLanes<W>;
  const AttentionParams& p = t.params;
  DropoutKeys keys;
  if constexpr (kDropout) make_dropout_keys(t, b, keys);
  const W* lse = static_cast<const W*>(p.lse) + t.head * p.total_tokens + t.session;
  W logs[kBlockVectors * lanes] = {};
  for (int64_t i = b.begin(); i < b.end(); ++i) logs[i - b.first] = lse[i];
  for (int64_t i = 0; i < b.num_vectors; ++i) {
    VectorOfQueries<W> q{b.first + i * lanes,
                         b.width,
                         p.distance_bias ? W(1) : W(p.scale * kLog2E),
                         load(logs + i * lanes) * W(kLog2E),
                         {},
                         {},
                         p.drop_threshold,
                         W(p.keep_scale)};
    if constexpr (kDropout) {
      q.start = load_words<W>(keys.start + i * lanes);
      q.flip = load_words<W>(keys.flip + i * lanes);
    }
    W* weights = a.weights + i * lanes;
    W* grads = a.grads + i * lanes;
    const int64_t whole = b.seen_whole(i), end = b.seen(i);
    Sums<W> sums;
    weights_again<kDropout, false>(q, 0, whole, weights, grads, sums);
    weights_again<kDropout, true>(q, whole, end, weights, grads, sums);
    grads_of_logits<kDropout>(end, b.width, sums, weights, grads);
  }
}

// Sums the gradients of logits by query - key.
template <typename W>
inline void add_grad_bias(const Task<W>& t, const Block<W>& b, const W* grads, W* grad_bias) {
  for (int64_t v = 0; v < b.num_vectors; ++v)
    for (int64_t key = 0; key < b.seen(v); ++key) {
      W* to = grad_bias + t.num_distances / 2 + b.first + v * kLanes<W> - key;
      store(to, load(to) + load(grads + key * b.width + v * kLanes<W>));
    }
}

template <typename W>
inline void fold_grad_bias(const Task<W>& t, const W* from, double* to) {
  const int64_t middle = t.num_distances / 2;
  for (int64_t x = 0; x < t.num_distances; ++x) {
    const int64_t distance = x < middle ? middle - x : x - middle;
    to[smaller(distance, t.params.num_distances - 1)] += from[x];
  }
}

template <bool kDropout, typename T, typename W>
inline void backward_block(const Task<W>& t, const Block<W>& b, const BackwardArrays<T>& a) {
  load_columns(t, b, a.q.rows, a.query_columns);
  load_columns(t, b, a.grad_out.rows, a.grad_columns);
  score(t, b, a.k.rows, a.query_columns, a.weights);
  score(t, b, a.v.rows, a.grad_columns, a.grads);
  if (t.params.distance_bias) add_bias(t, b, a.bias, a.weights);
  softmax_backward<kDropout>(t, b, a);
  if (t.params.distance_bias) add_grad_bias(t, b, a.grads, a.grad_bias);
  const W scale = W(t.params.scale);
  scatter(t, b, a.weights, a.grad_out.rows, W(t.params.keep_scale), a.grad_v.rows);
  scatter(t, b, a.grads, a.q.rows, scale, a.grad_k.rows);
  Vec<W> factor[kBlockVectors];
  for (Vec<W>& x : factor) x = all(scale);
  gather(t, b, a.k.rows, a.grads, factor, a.query_columns);
  store_columns(t, b, a.query_columns, a.grad_q.rows);
}

template <typename T>
inline void backward_session(const Task<Wide<T>>& t, const Rows& grad_out, T* grad_q, T* grad_k,
                             T* grad_v, double* grad_bias, TakeScratch memory) {
  using W = Wide<T>;
  const AttentionParams& p = t.params;
  Carver counted{nullptr};
  BackwardArrays<T>(t, grad_out, grad_q, grad_k, grad_v, counted);
  Carver carver{static_cast<char*>(memory(counted.used))};
  const BackwardArrays<T> a(t, grad_out, grad_q, grad_k, grad_v, carver);
  if (p.distance_bias) {
    spread_bias<T>(t, a.bias);
    for (int64_t x = 0; x < t.num_distances; ++x) a.grad_bias[x] = 0;
  }
  for (int64_t vector = 0; vector < t.num_vectors;) {
    const Block<W> b(t, vector);
    if (p.drop_threshold)
      backward_block<true>(t, b, a);
    else
      backward_block<false>(t, b, a);
    vector += b.num_vectors;
  }
  a.grad_q.write_back(t);
  a.grad_k.write_back(t);
  a.grad_v.write_back(t);
  if (p.distance_bias) fold_grad_bias(t, a.grad_bias, grad_bias + t.head * p.num_distances);
}

template <typename T>
void attention_backward(const AttentionParams& p, const AttentionRange& range, const Rows& grad_out,
                        T* grad_q, T* grad_k, T* grad_v, double* grad_bias, TakeScratch memory) {
  each_session<Wide<T>>(
      p, range,
      [&](int64_t token) __attribute__((always_inline)) {
        for (const Rows* rows : {&p.q, &p.k, &p.v, &grad_out}) fetch<T>(*rows, p, range, token);
        for (T* rows : {grad_q, grad_k, grad_v}) fetch_to_write(rows, p, range, token);
      },
      [&](const Task<Wide<T>>& t) {
        backward_session<T>(t, grad_out, grad_q, grad_k, grad_v, grad_bias, memory);
      });
}

}  // namespace mfgan::cpu::MFGAN_ISA
