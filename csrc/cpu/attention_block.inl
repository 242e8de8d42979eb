// Blocks of queries and what they see. Follows simd.inl and matmul.inl.
//
// Scores are kept transposed, a key a row with the queries along the lanes: maxima, sums and random
// bits of a query then stay in its lane, and keys and values are read where they lie, one number at
// a time, whatever their strides and head_dim. Queries are laid out so that the session's last one
// fills the last lane: the vector with lanes to spare comes first, where causal keys are fewest.

namespace mfgan::cpu::MFGAN_ISA {

constexpr int64_t kBlockVectors = 4;
// Scores of a block stay within the second-level cache.
constexpr int64_t kScoreBytes = 512 * 1024;
constexpr double kLog2E = 1.4426950408889634;
constexpr double kLn2 = 0.6931471805599453;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t not_negative(int64_t a) { return a < 0 ? 0 : a; }

// Sizes of a session's arrays in scratch memory, in elements of W.
template <typename W>
struct Sizes {
  static constexpr int64_t lanes = kLanes<W>;
  int64_t length, dim;
  int64_t row_width;      // dim in whole vectors
  int64_t num_vectors;    // of all queries
  int64_t block_vectors;  // of the queries of a block
  int64_t width;          // lanes of a block
  int64_t num_distances;  // of the bias laid out by query - key

  Sizes(const AttentionParams& p, int64_t num_tokens)
      : length(num_tokens),
        dim(p.head_dim),
        row_width(padded<W>(p.head_dim)),
        num_vectors((num_tokens + lanes - 1) / lanes),
        block_vectors(smaller(kBlockVectors, num_vectors)),
        num_distances(p.distance_bias ? 2 * padded<W>(num_tokens) + 2 * lanes : 0) {
    while (block_vectors > 1 &&
           2 * length * block_vectors * lanes * int64_t(sizeof(W)) > kScoreBytes)
      block_vectors /= 2;
    width = block_vectors * lanes;
  }
};

// Hands out parts of a block of memory; with a null block it only counts.
struct Carver {
  char* block;
  int64_t used = 0;

  template <typename T>
  T* take(int64_t count) {
    T* part = block ? reinterpret_cast<T*>(block + used) : nullptr;
    used += (count * int64_t(sizeof(T)) + 63) / 64 * 64;
    return part;
  }
};

// Keys that some of a block's vectors see: those from `vector` on, the first of them only up to its
// own place where `diagonal`.
struct Segment {
  int64_t begin, end, vector;
  bool diagonal;
};

// Consecutive queries: lane l of vector v is query first + v * lanes + l, which may be negative and
// then is none.
template <typename W>
struct Block {
  int64_t first, num_vectors, width;
  int64_t num_segments;
  Segment segments[kBlockVectors + 1];

  Block(const Sizes<W>& z, bool causal, int64_t vector) {
    constexpr int64_t lanes = kLanes<W>;
    // The first block takes what does not fill a whole one: its keys are the fewest.
    const int64_t rest = z.num_vectors % z.block_vectors;
    num_vectors = vector == 0 && rest != 0 ? rest : z.block_vectors;
    width = num_vectors * lanes;
    first = z.length - (z.num_vectors - vector) * lanes;
    num_segments = 0;
    const int64_t seen_by_all = causal ? not_negative(first) : z.length;
    if (seen_by_all > 0) segments[num_segments++] = {0, seen_by_all, 0, false};
    for (int64_t v = 0; causal && v < num_vectors; ++v) {
      const int64_t begin = first + v * lanes;
      segments[num_segments++] = {not_negative(begin), begin + lanes, v, true};
    }
  }

  int64_t begin() const { return not_negative(first); }
  int64_t end() const { return first + width; }
};

// Rows of one head, padded to whole vectors: row l is query first + l, zero where that is none.
template <typename T, typename W>
inline void load_rows(const Rows& from, int64_t session, int64_t head, int64_t first,
                      int64_t count, const Sizes<W>& z, W scale, W* to) {
  const T* data = static_cast<const T*>(from.data) + head * from.head_stride;
  for (int64_t l = 0; l < count; ++l, to += z.row_width) {
    if (first + l < 0) {
      for (int64_t d = 0; d < z.row_width; d += kLanes<W>) store(to + d, Vec<W>{});
      continue;
    }
    const T* row = data + (session + first + l) * from.token_stride;
    store(to + z.row_width - kLanes<W>, Vec<W>{});
    if constexpr (sizeof(T) == sizeof(W)) {
      copy_scaled(row, z.dim, scale, to);
    } else {
      for (int64_t d = 0; d < z.dim; ++d) to[d] = cpu::load(row[d]) * scale;
    }
  }
}

// The other way: rows of queries that exist go to a contiguous (total_tokens, num_heads, head_dim).
template <typename T, typename W>
inline void store_rows(const W* from, int64_t session, int64_t head, int64_t first, int64_t count,
                       const AttentionParams& p, const Sizes<W>& z, W scale, T* to) {
  for (int64_t l = not_negative(-first); l < count; ++l) {
    T* row = to + ((session + first + l) * p.num_heads + head) * z.dim;
    const W* values = from + l * z.row_width;
    if constexpr (sizeof(T) == sizeof(W)) {
      copy_scaled(values, z.dim, scale, row);
    } else {
      for (int64_t d = 0; d < z.dim; ++d) cpu::store(row + d, values[d] * scale);
    }
  }
}

// Asks for the rows of a session before they are needed, token by token: one after the other, their
// cache misses would take as long as the arithmetic.
template <typename T, int kArrays>
inline void fetch_ahead(const Rows* const (&arrays)[kArrays], int64_t session, int64_t head,
                        int64_t length, int64_t dim) {
  constexpr int64_t kTokens = 256, kLine = 64 / sizeof(T);
  for (int64_t i = session; i < session + smaller(length, kTokens); ++i)
    for (const Rows* rows : arrays) {
      const T* row = static_cast<const T*>(rows->data) + i * rows->token_stride;
      for (int64_t d = 0; d < dim; d += kLine)
        __builtin_prefetch(row + head * rows->head_stride + d);
    }
}

// Keys or values of a session as the left side of products: float and double where they lie, half
// types as a copy.
template <typename T, typename W>
inline Left<W> rows_in_place(const Rows& from, int64_t session, int64_t head, const Sizes<W>& z,
                             W* copy) {
  if constexpr (sizeof(T) == sizeof(W)) {
    const W* data = static_cast<const W*>(from.data);
    return {data + session * from.token_stride + head * from.head_stride, from.token_stride, 1};
  } else {
    load_rows<T>(from, session, head, 0, z.length, z, W(1), copy);
    return {copy, z.row_width, 1};
  }
}

template <typename W>
inline Left<W> from_row(Left<W> a, int64_t row) {
  return {a.data + row * a.row_stride, a.row_stride, a.k_stride};
}

template <typename W>
inline Left<W> transposed(Left<W> a) {
  return {a.data, a.k_stride, a.row_stride};
}

// scores[key][query] = left[key] . columns[.][query] for every pair of the block that is seen.
template <typename W>
inline void score(const Block<W>& b, const Sizes<W>& z, Left<W> left, const W* columns,
                  W* scores) {
  for (int64_t i = 0; i < b.num_segments; ++i) {
    const Segment& s = b.segments[i];
    const int64_t lane = s.vector * kLanes<W>;
    matmul(s.end - s.begin, b.width - lane, z.dim, from_row(left, s.begin), columns + lane,
           b.width, scores + s.begin * b.width + lane, b.width);
  }
}

// to[feature][query] = sum over keys of left[key][feature] weights[key][query].
template <typename W>
inline void gather(const Block<W>& b, const Sizes<W>& z, Left<W> left, const W* weights, W* to) {
  for (int64_t i = 0; i < b.num_segments; ++i) {
    const Segment& s = b.segments[i];
    const int64_t lane = s.vector * kLanes<W>;
    matmul(z.dim, b.width - lane, s.end - s.begin, transposed(from_row(left, s.begin)),
           weights + s.begin * b.width + lane, b.width, to + lane, b.width, i > 0);
  }
}

// to[key][.] += sum over queries of weights[key][query] rows[query][.]
template <typename W>
inline void scatter(const Block<W>& b, const Sizes<W>& z, const W* weights, const W* rows, W* to) {
  for (int64_t i = 0; i < b.num_segments; ++i) {
    const Segment& s = b.segments[i];
    const int64_t lane = s.vector * kLanes<W>;
    const Left<W> left{weights + s.begin * b.width + lane, b.width, 1};
    matmul(s.end - s.begin, z.row_width, b.width - lane, left, rows + lane * z.row_width,
           z.row_width, to + s.begin * z.row_width, z.row_width, true);
  }
}

// Lanes of a vector whose first query is `first` that see a causal key.
template <typename W>
inline Index<W> sees(int64_t first, int64_t key) {
  using Number = std::conditional_t<sizeof(W) == 4, int32_t, int64_t>;
  return iota<W>() >= Index<W>{} + static_cast<Number>(key - first);
}

// Random words of a block's queries (rng.h).
struct DropoutKeys {
  uint32_t start[kBlockVectors * MFGAN_VECTOR_BYTES / 4];
  uint32_t flip[kBlockVectors * MFGAN_VECTOR_BYTES / 4];
};

template <typename W>
inline void make_dropout_keys(const AttentionParams& p, const Block<W>& b, int64_t session,
                              int64_t head, DropoutKeys& keys) {
  for (int64_t l = 0; l < b.width; ++l) {
    const int64_t row = (session + b.first + l) * p.num_heads + head;
    const RowKey key = row_key(p.seed, p.offset, p.site, row);
    keys.start[l] = key.start;
    keys.flip[l] = key.flip;
  }
}

// The bias by distance, in units of log 2: entry `x` belongs to query - key == x - middle.
template <typename T, typename W>
inline void spread_bias(const AttentionParams& p, int64_t head, const Sizes<W>& z, W* to) {
  const T* bias = static_cast<const T*>(p.distance_bias) + head * p.num_distances;
  const int64_t middle = z.num_distances / 2;
  for (int64_t x = 0; x < z.num_distances; ++x) {
    const int64_t distance = x < middle ? middle - x : x - middle;
    to[x] = cpu::load(bias[smaller(distance, p.num_distances - 1)]) * W(kLog2E);
  }
}

template <typename W>
inline void add_bias(const Block<W>& b, const Sizes<W>& z, const W* bias, W* scores) {
  for (int64_t i = 0; i < b.num_segments; ++i) {
    const Segment& s = b.segments[i];
    for (int64_t key = s.begin; key < s.end; ++key) {
      const W* by_distance = bias + z.num_distances / 2 + b.first - key;
      W* row = scores + key * b.width;
      for (int64_t lane = s.vector * kLanes<W>; lane < b.width; lane += kLanes<W>)
        store(row + lane, load(row + lane) + load(by_distance + lane));
    }
  }
}

}  // namespace mfgan::cpu::MFGAN_ISA
