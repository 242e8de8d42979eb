// The three products of attention. Follows attention_block.inl.

namespace mfgan::cpu::MFGAN_ISA {

// scores[key][query] = left[key] . columns[.][query] for every pair of the block that is seen.
template <typename W>
inline void score(const Task<W>& t, const Block<W>& b, Matrix<const W> left, const W* columns,
                  W* scores) {
  int64_t key = 0;
  for (int64_t v = 0; v < b.num_vectors; ++v) {
    const int64_t lane = v * kLanes<W>, end = b.seen(v);
    if (end > key)
      matmul(end - key, b.width - lane, t.dim, left.as_left(key), columns + lane, b.width,
             scores + key * b.width + lane, b.width);
    key = end;
  }
}

// Adds keys that vectors from kFrom on see to sums of kRows features and kVectors of queries.
template <int kRows, int kVectors, int kFrom, typename W>
inline void gather_keys(int64_t num_keys, const W*& left, int64_t left_stride, const W*& weights,
                        int64_t stride, Vec<W> (&sum)[kRows][kVectors]) {
  for (int64_t key = 0; key < num_keys; ++key, left += left_stride, weights += stride) {
    Vec<W> right[kVectors];
#pragma GCC unroll 8
    for (int v = kFrom; v < kVectors; ++v) right[v] = load(weights + v * kLanes<W>);
#pragma GCC unroll 32
    for (int r = 0; r < kRows; ++r) {
      const W number = left[r];
#pragma GCC unroll 8
      for (int v = kFrom; v < kVectors; ++v) sum[r][v] += number * right[v];
    }
  }
}

template <int kRows, int kVectors, typename W>
__attribute__((noinline)) void gather_tile(const Block<W>& b, const W* left, int64_t left_stride,
                                           const W* weights, const Vec<W>* factor, W* to) {
  Vec<W> sum[kRows][kVectors];
#pragma GCC unroll 32
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[r][v] = Vec<W>{};
  const int64_t lanes = b.causal ? kLanes<W> : 0;
  gather_keys<kRows, kVectors, 0>(b.seen(0), left, left_stride, weights, b.width, sum);
  if constexpr (kVectors > 1)
    gather_keys<kRows, kVectors, 1>(lanes, left, left_stride, weights, b.width, sum);
  if constexpr (kVectors > 2)
    gather_keys<kRows, kVectors, 2>(lanes, left, left_stride, weights, b.width, sum);
  if constexpr (kVectors > 3)
    gather_keys<kRows, kVectors, 3>(lanes, left, left_stride, weights, b.width, sum);
#pragma GCC unroll 32
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v)
      store(to + r * b.width + v * kLanes<W>, sum[r][v] * factor[v]);
}

// Features a tile takes at a time; the last tile overlaps the one before.
template <int kRows, int kVectors, typename W>
inline void gather_tiles(const Task<W>& t, const Block<W>& b, Matrix<const W> left,
                         const W* weights, const Vec<W>* factor, W* to) {
  for (int64_t d = 0; d < t.dim; d += kRows) {
    const int64_t feature = smaller(d, t.dim - kRows);
    gather_tile<kRows, kVectors>(b, left.data + feature, left.stride, weights, factor,
                                 to + feature * b.width);
  }
}

// Of two heights that keep the registers busy, the one that overlaps less.
template <int kHigh, int kLow, int kVectors, typename W>
inline void gather_rows(const Task<W>& t, const Block<W>& b, Matrix<const W> left, const W* weights,
                        const Vec<W>* factor, W* to) {
  const int64_t high = (t.dim + kHigh - 1) / kHigh * kHigh;
  const int64_t low = (t.dim + kLow - 1) / kLow * kLow;
  if (high <= low)
    gather_tiles<kHigh, kVectors>(t, b, left, weights, factor, to);
  else
    gather_tiles<kLow, kVectors>(t, b, left, weights, factor, to);
}

// to[feature][query] = factor[query] * sum over keys of left[key][feature] weights[key][query].
template <typename W>
inline void gather(const Task<W>& t, const Block<W>& b, Matrix<const W> left, const W* weights,
                   const Vec<W>* factor, W* to) {
  constexpr bool many = MFGAN_NUM_REGISTERS == 32;
  constexpr int lanes = kLanes<W>;  // no tile is higher than the fewest features
  constexpr auto rows = [](int wanted) { return wanted < lanes ? wanted : lanes; };
  switch (b.num_vectors) {
    case 1:
      return gather_rows<rows(many ? 16 : 8), rows(many ? 10 : 5), 1>(t, b, left, weights, factor,
                                                                      to);
    case 2:
      return gather_rows<rows(many ? 10 : 4), rows(many ? 8 : 5), 2>(t, b, left, weights, factor,
                                                                     to);
    case 3:
      return gather_rows<rows(many ? 8 : 3), rows(many ? 5 : 2), 3>(t, b, left, weights, factor,
                                                                    to);
    default:
      return gather_rows<rows(many ? 5 : 2), rows(many ? 4 : 2), 4>(t, b, left, weights, factor,
                                                                    to);
  }
}

// Where the vectors of a row's features start; the last one may overlap the one before.
struct Features {
  int64_t start[4];
};

template <int kRows, int kVectors, typename W>
inline void scatter_tile(int64_t num_queries, const W* weights, int64_t stride,
                         Matrix<const W> right, const Features& f, W scale, bool accumulate,
                         Matrix<W> to) {
  Vec<W> sum[kRows][kVectors];
#pragma GCC unroll 32
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[r][v] = Vec<W>{};
  const W* rows[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) rows[v] = right.data + f.start[v];
  for (int64_t q = 0; q < num_queries; ++q) {
    Vec<W> features[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) features[v] = load(rows[v] + q * right.stride);
#pragma GCC unroll 32
    for (int r = 0; r < kRows; ++r) {
      const W weight = weights[r * stride + q];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] += weight * features[v];
    }
  }
#pragma GCC unroll 32
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] *= scale;
      if (accumulate) sum[r][v] += load(to.row(r) + f.start[v]);
    }
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) store(to.row(r) + f.start[v], sum[r][v]);
  }
}

template <int kRows, int kVectors, typename W>
inline void scatter_last_rows(int64_t num_rows, int64_t num_queries, const W* weights,
                              int64_t stride, Matrix<const W> right, const Features& f, W scale,
                              bool accumulate, Matrix<W> to) {
  if constexpr (kRows > 0) {
    if (num_rows == kRows)
      scatter_tile<kRows, kVectors>(num_queries, weights, stride, right, f, scale, accumulate, to);
    else
      scatter_last_rows<kRows - 1, kVectors>(num_rows, num_queries, weights, stride, right, f,
                                             scale, accumulate, to);
  }
}

template <int kVectors, typename W>
__attribute__((noinline)) void scatter_panel(int64_t num_keys, int64_t num_queries,
                                             const W* weights, int64_t stride,
                                             Matrix<const W> right, const Features& f, W scale,
                                             bool accumulate, Matrix<W> to) {
  constexpr int rows = kTileRows<kVectors>;
  int64_t key = 0;
  for (; key + rows <= num_keys; key += rows)
    scatter_tile<rows, kVectors>(num_queries, weights + key * stride, stride, right, f, scale,
                                 accumulate, {to.row(key), to.stride});
  scatter_last_rows<rows - 1, kVectors>(num_keys - key, num_queries, weights + key * stride, stride,
                                        right, f, scale, accumulate, {to.row(key), to.stride});
}

// Keys begin to end: to[key][.] (+)= scale * sum over queries of weights[key][query] right[query].
template <typename W>
inline void scatter_keys(const Task<W>& t, const Block<W>& b, int64_t begin, int64_t end,
                         int64_t lane, const W* weights, Matrix<const W> right, W scale,
                         bool accumulate, Matrix<W> to) {
  if (begin >= end) return;
  constexpr int64_t lanes = kLanes<W>;
  const int64_t skipped = lane + not_negative(-b.first - lane);  // lanes that are no queries
  const int64_t num_queries = b.width - skipped;
  const Matrix<const W> queries{right.row(b.first + skipped), right.stride};
  weights += begin * b.width + skipped;
  const Matrix<W> rows{to.row(begin), to.stride};
  for (int64_t d = 0, vectors; d < t.dim; d += vectors * lanes) {
    const int64_t left = padded<W>(t.dim - d) / lanes;
    // The last vector, which may overlap the one before, is never a panel's only one: sums that
    // another panel has stored would be added to twice.
    vectors = left == kTileVectors + 1 ? kTileVectors - 1 : smaller(left, kTileVectors);
    Features f;
    for (int64_t v = 0; v < vectors; ++v) f.start[v] = smaller(d + v * lanes, t.dim - lanes);
    if (vectors == 4)
      scatter_panel<kTileVectors>(end - begin, num_queries, weights, b.width, queries, f, scale,
                                  accumulate, rows);
    else if (vectors == 3)
      scatter_panel<3>(end - begin, num_queries, weights, b.width, queries, f, scale, accumulate,
                       rows);
    else if (vectors == 2)
      scatter_panel<2>(end - begin, num_queries, weights, b.width, queries, f, scale, accumulate,
                       rows);
    else
      scatter_panel<1>(end - begin, num_queries, weights, b.width, queries, f, scale, accumulate,
                       rows);
  }
}

// Adds to the rows of keys that earlier blocks saw, and writes those that this one is the first to.
template <typename W>
inline void scatter(const Task<W>& t, const Block<W>& b, const W* weights, Matrix<const W> right,
                    W scale, Matrix<W> to) {
  if (!b.causal) {
    scatter_keys(t, b, 0, b.length, 0, weights, right, scale, b.first > 0, to);
    return;
  }
  int64_t key = b.begin();
  scatter_keys(t, b, 0, key, 0, weights, right, scale, true, to);
  for (int64_t v = 0; v < b.num_vectors; ++v) {
    scatter_keys(t, b, key, b.seen(v), v * kLanes<W>, weights, right, scale, false, to);
    key = b.seen(v);
  }
}

}  // namespace mfgan::cpu::MFGAN_ISA
