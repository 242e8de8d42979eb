// Forward pass of one session and head. Follows attention_block.inl.

namespace mfgan::cpu::MFGAN_ISA {

template <typename W>
struct ForwardScratch {
  W *key_rows, *value_rows;   // copies of half types
  W *rows, *columns;          // queries of a block, then its output
  W *scores, *bias;
  int64_t num_bytes;

  ForwardScratch(const Sizes<W>& z, bool copies, void* block) {
    Carver c{static_cast<char*>(block)};
    key_rows = c.take<W>(copies ? z.length * z.row_width : 0);
    value_rows = c.take<W>(copies ? z.length * z.row_width : 0);
    rows = c.take<W>(z.width * z.row_width);
    columns = c.take<W>(z.row_width * z.width);
    scores = c.take<W>(z.length * z.width);
    bias = c.take<W>(z.num_distances);
    num_bytes = c.used;
  }
};

// What softmax leaves of a vector of queries.
template <typename W>
struct Softmax {
  Vec<W> top, sum;
};

// Weights relative to the largest, in place of one vector's scores, those of keys begin to end.
template <bool kDropout, bool kDiagonal, typename W>
inline Vec<W> exponentials(int64_t begin, int64_t end, int64_t first, int64_t stride, Vec<W> top,
                           Words<W> start, Words<W> flip, uint32_t threshold, W* scores) {
  Vec<W> sum{};
  for (int64_t key = begin; key < end; ++key) {
    Vec<W> weight = exp2_of(load(scores + key * stride) - top);
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

template <bool kDropout, typename W>
inline Softmax<W> softmax(const Block<W>& b, const Sizes<W>& z, bool causal, int64_t vector,
                          const DropoutKeys& keys, uint32_t threshold, W* scores) {
  const int64_t lane = vector * kLanes<W>;
  const int64_t first = b.first + lane;  // query of the first lane
  const int64_t whole = causal ? not_negative(first) : z.length;
  const int64_t end = causal ? first + kLanes<W> : z.length;
  scores += lane;
  Vec<W> top = all(W(-1e30));
  for (int64_t key = 0; key < whole; ++key) top = larger<W>(top, load(scores + key * b.width));
  for (int64_t key = whole; key < end; ++key) {
    const Vec<W> seen = load(scores + key * b.width);
    top = larger<W>(top, sees<W>(first, key) ? seen : all(W(-1e30)));
  }
  Words<W> start{}, flip{};
  if constexpr (kDropout) {
    start = load_words<W>(keys.start + lane);
    flip = load_words<W>(keys.flip + lane);
  }
  Vec<W> sum = exponentials<kDropout, false, W>(0, whole, first, b.width, top, start, flip,
                                                threshold, scores);
  sum += exponentials<kDropout, true, W>(whole, end, first, b.width, top, start, flip, threshold,
                                         scores);
  return {top, sum};
}

template <bool kDropout, typename T, typename W>
inline void forward_block(const AttentionParams& p, const Sizes<W>& z, const Block<W>& b,
                          int64_t session, int64_t head, Left<W> k, Left<W> v,
                          const ForwardScratch<W>& s, T* out, W* lse) {
  load_rows<T>(p.q, session, head, b.first, b.width, z, W(p.scale * kLog2E), s.rows);
  transpose(s.rows, z.row_width, b.width, z.dim, s.columns, b.width);
  score(b, z, k, s.columns, s.scores);
  if (p.distance_bias) add_bias(b, z, s.bias, s.scores);
  DropoutKeys keys;
  if constexpr (kDropout) make_dropout_keys(p, b, session, head, keys);
  Vec<W> factor[kBlockVectors];
  W logs[kBlockVectors * kLanes<W>];
  for (int64_t i = 0; i < b.num_vectors; ++i) {
    const Softmax<W> row =
        softmax<kDropout>(b, z, p.causal, i, keys, p.drop_threshold, s.scores);
    store(logs + i * kLanes<W>, row.top * W(kLn2) + log_of(row.sum));
    factor[i] = W(p.keep_scale) / row.sum;
  }
  for (int64_t i = b.begin(); i < b.end(); ++i)
    lse[head * p.total_tokens + session + i] = logs[i - b.first];
  gather(b, z, v, s.scores, s.columns);
  for (int64_t d = 0; d < z.dim; ++d)
    for (int64_t i = 0; i < b.num_vectors; ++i) {
      W* at = s.columns + d * b.width + i * kLanes<W>;
      store(at, load(at) * factor[i]);
    }
  transpose(s.columns, b.width, z.dim, b.width, s.rows, z.row_width);
  store_rows(s.rows, session, head, b.first, b.width, p, z, W(1), out);
}

template <typename T>
void attention_forward(const AttentionParams& p, int64_t session, int64_t head, T* out,
                       Wide<T>* lse, Scratch memory) {
  using W = Wide<T>;
  const int64_t begin = p.cu_seqlens[session];
  const Sizes<W> z(p, p.cu_seqlens[session + 1] - begin);
  if (z.length == 0) return;
  fetch_ahead<T>({&p.q, &p.k, &p.v}, begin, head, z.length, z.dim);
  constexpr bool kCopies = sizeof(T) != sizeof(W);
  const int64_t num_bytes = ForwardScratch<W>(z, kCopies, nullptr).num_bytes;
  const ForwardScratch<W> s(z, kCopies, memory(num_bytes));
  const Left<W> k = rows_in_place<T>(p.k, begin, head, z, s.key_rows);
  const Left<W> v = rows_in_place<T>(p.v, begin, head, z, s.value_rows);
  if (p.distance_bias) spread_bias<T>(p, head, z, s.bias);
  for (int64_t vector = 0; vector < z.num_vectors;) {
    const Block<W> b(z, p.causal, vector);
    if (p.drop_threshold)
      forward_block<true>(p, z, b, begin, head, k, v, s, out, lse);
    else
      forward_block<false>(p, z, b, begin, head, k, v, s, out, lse);
    vector += b.num_vectors;
  }
}

}  // namespace mfgan::cpu::MFGAN_ISA
