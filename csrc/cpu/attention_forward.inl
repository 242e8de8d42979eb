// Forward pass of one session and head. Follows attention_products.inl.

namespace mfgan::cpu::MFGAN_ISA {

template <typename T>
struct ForwardArrays {
  using W = Wide<T>;
  Input<T> q, k, v;
  Output<T> out;
  W *columns, *scores, *bias;

  ForwardArrays(const Task<W>& t, T* to, Carver& c)
      : q(t, t.params.q, c),
        k(t, t.params.k, c),
        v(t, t.params.v, c),
        out(t, to, c),
        columns(c.take<W>(t.dim * t.width())),
        scores(c.take<W>(t.length * t.width())),
        bias(c.take<W>(t.num_distances)) {}
};

// What softmax leaves of a vector of queries, `top` in units of log 2.
template <typename W>
struct Softmax {
  Vec<W> top, sum;
};

// Weights relative to the largest, in place of one vector's scores, those of keys begin to end.
template <bool kDropout, bool kDiagonal, typename W>
inline Vec<W> exponentials(int64_t begin, int64_t end, int64_t first, int64_t stride, W scale,
                           Vec<W> top, Words<W> start, Words<W> flip, uint32_t threshold,
                           W* scores) {
  Vec<W> sum{};
  for (int64_t key = begin; key < end; ++key) {
    Vec<W> weight = exp2_of(load(scores + key * stride) * scale - top);
    if constexpr (kDiagonal) weight = sees<W>(first, key) ? weight : Vec<W>{};
    sum += weight;
    if constexpr (kDropout) {
      const Words<W> words = random_words<W>(start, flip, Words<W>{} + uint32_t(key));
      weight = kept_or_zero<W>(words, threshold, weight);
    }
    store(scores + key * stride, weight);
  }
  return sum;
}

// `scale` brings the scores to units of log 2.
template <bool kDropout, typename W>
inline Softmax<W> softmax(const Block<W>& b, int64_t vector, W scale, const DropoutKeys& keys,
                          uint32_t threshold, W* scores) {
  const int64_t lane = vector * kLanes<W>;
  const int64_t first = b.first + lane;  // query of the first lane
  const int64_t whole = b.seen_whole(vector), end = b.seen(vector);
  scores += lane;
  Vec<W> top = all(W(-1e30));
  for (int64_t key = 0; key < whole; ++key)
    top = larger<W>(top, load(scores + key * b.width) * scale);
  for (int64_t key = whole; key < end; ++key) {
    const Vec<W> seen = load(scores + key * b.width) * scale;
    top = larger<W>(top, sees<W>(first, key) ? seen : all(W(-1e30)));
  }
  Words<W> start{}, flip{};
  if constexpr (kDropout) {
    start = load_words<W>(keys.start + lane);
    flip = load_words<W>(keys.flip + lane);
  }
  Vec<W> sum = exponentials<kDropout, false, W>(0, whole, first, b.width, scale, top, start, flip,
                                                threshold, scores);
  sum += exponentials<kDropout, true, W>(whole, end, first, b.width, scale, top, start, flip,
                                         threshold, scores);
  return {top, sum};
}

template <bool kDropout, typename T, typename W>
inline void forward_block(const Task<W>& t, const Block<W>& b, const ForwardArrays<T>& a, W* lse) {
  const AttentionParams& p = t.params;
  load_columns(t, b, a.q.rows, a.columns);
  score(t, b, a.k.rows, a.columns, a.scores);
  if (p.distance_bias) add_bias(t, b, a.bias, a.scores);
  const W scale = p.distance_bias ? W(1) : W(p.scale * kLog2E);
  DropoutKeys keys;
  if constexpr (kDropout) make_dropout_keys(t, b, keys);
  Vec<W> factor[kBlockVectors];
  W logs[kBlockVectors * kLanes<W>];
  for (int64_t i = 0; i < b.num_vectors; ++i) {
    const Softmax<W> row = softmax<kDropout>(b, i, scale, keys, p.drop_threshold, a.scores);
    store(logs + i * kLanes<W>, row.top * W(kLn2) + log_of(row.sum));
    factor[i] = W(p.keep_scale) / row.sum;
  }
  for (int64_t i = b.begin(); i < b.end(); ++i) lse[i] = logs[i - b.first];
  gather(t, b, a.v.rows, a.scores, factor, a.columns);
  store_columns(t, b, a.columns, a.out.rows);
}

template <typename T>
inline void forward_session(const Task<Wide<T>>& t, T* out, Wide<T>* lse, TakeScratch memory) {
  const AttentionParams& p = t.params;
  Carver counted{nullptr};
  ForwardArrays<T>(t, out, counted);
  Carver carver{static_cast<char*>(memory(counted.used))};
  const ForwardArrays<T> a(t, out, carver);
  if (p.distance_bias) spread_bias<T>(t, a.bias);
  lse += t.head * p.total_tokens + t.session;
  for (int64_t vector = 0; vector < t.num_vectors;) {
    const Block<Wide<T>> b(t, vector);
    if (p.drop_threshold)
      forward_block<true>(t, b, a, lse);
    else
      forward_block<false>(t, b, a, lse);
    vector += b.num_vectors;
  }
  a.out.write_back(t);
}

template <typename T>
void attention_forward(const AttentionParams& p, const AttentionRange& range, T* out, Wide<T>* lse,
                       TakeScratch memory) {
  each_session<Wide<T>>(
      p, range,
      [&](int64_t token) __attribute__((always_inline)) {
        for (const Rows* rows : {&p.q, &p.k, &p.v}) fetch<T>(*rows, p, range, token);
        fetch_to_write(out, p, range, token);
      },
      [&](const Task<Wide<T>>& t) { forward_session<T>(t, out, lse, memory); });
}

}  // namespace mfgan::cpu::MFGAN_ISA
