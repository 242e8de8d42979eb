// Backward pass of one session and head. Follows attention_block.inl.

namespace mfgan::cpu::MFGAN_ISA {

template <typename W>
struct BackwardScratch {
  W *key_rows, *value_rows;             // copies of half types
  W *query_rows, *query_columns;        // of a block
  W *grad_rows, *grad_columns;          // of its output, then of its queries
  W *weights, *grads;                   // [key][query]
  W *grad_key_rows, *grad_value_rows;   // of the session
  W *bias, *grad_bias;
  int64_t num_bytes;

  BackwardScratch(const Sizes<W>& z, bool copies, void* block) {
    Carver c{static_cast<char*>(block)};
    key_rows = c.take<W>(copies ? z.length * z.row_width : 0);
    value_rows = c.take<W>(copies ? z.length * z.row_width : 0);
    for (W** x : {&query_rows, &query_columns, &grad_rows, &grad_columns})
      *x = c.take<W>(z.width * z.row_width);
    for (W** x : {&weights, &grads}) *x = c.take<W>(z.length * z.width);
    for (W** x : {&grad_key_rows, &grad_value_rows}) *x = c.take<W>(z.length * z.row_width);
    for (W** x : {&bias, &grad_bias}) *x = c.take<W>(z.num_distances);
    num_bytes = c.used;
  }
};

template <typename W>
struct VectorOfQueries {
  int64_t first, stride;
  Vec<W> lse;  // in units of log 2
  Words<W> start, flip;
  uint32_t threshold;
  W keep_scale;
};

// Weights before dropout, negative where dropped, in place of the scores; gradients of those
// weights in place of the gradients of dropped ones. Returns the sum of their products.
template <bool kDropout, bool kDiagonal, typename W>
inline Vec<W> weights_again(const VectorOfQueries<W>& q, int64_t begin, int64_t end, W* weights,
                            W* grads) {
  Vec<W> sum{};
  for (int64_t key = begin; key < end; ++key) {
    W* at = weights + key * q.stride;
    Vec<W> weight = exp2_of(load(at) - q.lse);
    Vec<W> grad = load(grads + key * q.stride);
    if constexpr (kDiagonal) weight = sees<W>(q.first, key) ? weight : Vec<W>{};
    if constexpr (kDropout) {
      const Words<W> words = random_words<W>(q.start, q.flip, Words<W>{} + uint32_t(key));
      grad = kept_or_zero<W>(words, q.threshold, grad * q.keep_scale);
      store(grads + key * q.stride, grad);
      sum += weight * grad;
      weight = kept_or_negative<W>(words, q.threshold, weight);
    } else {
      sum += weight * grad;
    }
    store(at, weight);
  }
  return sum;
}

// Gradients of the scores in place of those of the weights; weights after dropout, still to be
// multiplied by keep_scale, in place of the signed ones.
template <bool kDropout, typename W>
inline void grads_of_scores(int64_t end, int64_t stride, Vec<W> sum, W* weights, W* grads) {
  for (int64_t key = 0; key < end; ++key, weights += stride, grads += stride) {
    const Vec<W> weight = load(weights);
    if constexpr (kDropout) {
      const Vec<W> size = weight < W(0) ? -weight : weight;
      store(grads, size * (load(grads) - sum));
      store(weights, larger<W>(weight, Vec<W>{}));
    } else {
      store(grads, weight * (load(grads) - sum));
    }
  }
}

template <bool kDropout, typename W>
inline void softmax_backward(const AttentionParams& p, const Sizes<W>& z, const Block<W>& b,
                             int64_t session, int64_t head, const BackwardScratch<W>& s) {
  constexpr int64_t lanes = kLanes<W>;
  DropoutKeys keys;
  if constexpr (kDropout) make_dropout_keys(p, b, session, head, keys);
  const W* lse = static_cast<const W*>(p.lse) + head * p.total_tokens + session;
  W logs[kBlockVectors * lanes] = {};
  for (int64_t i = b.begin(); i < b.end(); ++i) logs[i - b.first] = lse[i];
  for (int64_t i = 0; i < b.num_vectors; ++i) {
    VectorOfQueries<W> q{b.first + i * lanes, b.width, load(logs + i * lanes) * W(kLog2E), {}, {},
                         p.drop_threshold, W(p.keep_scale)};
    if constexpr (kDropout) {
      q.start = load_words<W>(keys.start + i * lanes);
      q.flip = load_words<W>(keys.flip + i * lanes);
    }
    W* weights = s.weights + i * lanes;
    W* grads = s.grads + i * lanes;
    const int64_t whole = p.causal ? not_negative(q.first) : z.length;
    const int64_t end = p.causal ? q.first + lanes : z.length;
    Vec<W> sum = weights_again<kDropout, false>(q, 0, whole, weights, grads);
    sum += weights_again<kDropout, true>(q, whole, end, weights, grads);
    grads_of_scores<kDropout>(end, b.width, sum, weights, grads);
  }
}

// Sums the gradients of scores by query - key.
template <typename W>
inline void add_grad_bias(const Block<W>& b, const Sizes<W>& z, const W* grads, W* grad_bias) {
  for (int64_t i = 0; i < b.num_segments; ++i) {
    const Segment& s = b.segments[i];
    for (int64_t key = s.begin; key < s.end; ++key) {
      W* by_distance = grad_bias + z.num_distances / 2 + b.first - key;
      const W* row = grads + key * b.width;
      for (int64_t lane = s.vector * kLanes<W>; lane < b.width; lane += kLanes<W>)
        store(by_distance + lane, load(by_distance + lane) + load(row + lane));
    }
  }
}

template <bool kDropout, typename T, typename W>
inline void backward_block(const AttentionParams& p, const Sizes<W>& z, const Block<W>& b,
                           int64_t session, int64_t head, Left<W> k, Left<W> v,
                           const Rows& grad_out, const BackwardScratch<W>& s, T* grad_q) {
  load_rows<T>(p.q, session, head, b.first, b.width, z, W(p.scale * kLog2E), s.query_rows);
  load_rows<T>(grad_out, session, head, b.first, b.width, z, W(1), s.grad_rows);
  transpose(s.query_rows, z.row_width, b.width, z.dim, s.query_columns, b.width);
  transpose(s.grad_rows, z.row_width, b.width, z.dim, s.grad_columns, b.width);
  score(b, z, k, s.query_columns, s.weights);
  score(b, z, v, s.grad_columns, s.grads);
  if (p.distance_bias) add_bias(b, z, s.bias, s.weights);
  softmax_backward<kDropout>(p, z, b, session, head, s);
  if (p.distance_bias) add_grad_bias(b, z, s.grads, s.grad_bias);
  scatter(b, z, s.weights, s.grad_rows, s.grad_value_rows);
  scatter(b, z, s.grads, s.query_rows, s.grad_key_rows);
  gather(b, z, k, s.grads, s.grad_columns);
  transpose(s.grad_columns, b.width, z.dim, b.width, s.grad_rows, z.row_width);
  store_rows(s.grad_rows, session, head, b.first, b.width, p, z, W(p.scale), grad_q);
}

template <typename W>
inline void fold_grad_bias(const AttentionParams& p, const Sizes<W>& z, const W* from,
                           double* to) {
  const int64_t middle = z.num_distances / 2;
  for (int64_t x = 0; x < z.num_distances; ++x) {
    const int64_t distance = x < middle ? middle - x : x - middle;
    to[smaller(distance, p.num_distances - 1)] += from[x];
  }
}

template <typename T>
void attention_backward(const AttentionParams& p, int64_t session, int64_t head,
                        const Rows& grad_out, T* grad_q, T* grad_k, T* grad_v, double* grad_bias,
                        Scratch memory) {
  using W = Wide<T>;
  const int64_t begin = p.cu_seqlens[session];
  const Sizes<W> z(p, p.cu_seqlens[session + 1] - begin);
  if (z.length == 0) return;
  fetch_ahead<T>({&p.q, &p.k, &p.v, &grad_out}, begin, head, z.length, z.dim);
  constexpr bool kCopies = sizeof(T) != sizeof(W);
  const int64_t num_bytes = BackwardScratch<W>(z, kCopies, nullptr).num_bytes;
  const BackwardScratch<W> s(z, kCopies, memory(num_bytes));
  const Left<W> k = rows_in_place<T>(p.k, begin, head, z, s.key_rows);
  const Left<W> v = rows_in_place<T>(p.v, begin, head, z, s.value_rows);
  __builtin_memset(s.grad_key_rows, 0, z.length * z.row_width * sizeof(W));
  __builtin_memset(s.grad_value_rows, 0, z.length * z.row_width * sizeof(W));
  if (p.distance_bias) {
    spread_bias<T>(p, head, z, s.bias);
    __builtin_memset(s.grad_bias, 0, z.num_distances * sizeof(W));
  }
  for (int64_t vector = 0; vector < z.num_vectors;) {
    const Block<W> b(z, p.causal, vector);
    if (p.drop_threshold)
      backward_block<true>(p, z, b, begin, head, k, v, grad_out, s, grad_q);
    else
      backward_block<false>(p, z, b, begin, head, k, v, grad_out, s, grad_q);
    vector += b.num_vectors;
  }
  // Query rows carry scale * log2(e), weights lack keep_scale.
  store_rows(s.grad_key_rows, begin, head, 0, z.length, p, z, W(kLn2), grad_k);
  store_rows(s.grad_value_rows, begin, head, 0, z.length, p, z, W(p.keep_scale), grad_v);
  if (p.distance_bias) fold_grad_bias(p, z, s.grad_bias, grad_bias);
}

}  // namespace mfgan::cpu::MFGAN_ISA
