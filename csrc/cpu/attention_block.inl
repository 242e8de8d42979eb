// Blocks of queries and what they see. Follows simd.inl and matmul.inl.
//
// Scores are kept transposed, a key a row with the queries along the lanes: maxima, sums and random
// bits of a query then stay in its lane, and keys and values are read where they lie, one number at
// a time. Queries are laid out so that the session's last one fills the last lane: the vector with
// lanes to spare comes first, where causal keys are fewest.

namespace mfgan::cpu::MFGAN_ISA {

constexpr int64_t kBlockVectors = 4;
// Scores of a block stay within the second-level cache.
constexpr int64_t kScoreBytes = 512 * 1024;
constexpr double kLog2E = 1.4426950408889634;
constexpr double kLn2 = 0.6931471805599453;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t not_negative(int64_t a) { return a < 0 ? 0 : a; }

// Rows of one head. At least a vector of features, so that the last vector of a row may overlap the
// one before.
template <typename W>
struct Matrix {
  W* data;
  int64_t stride;

  W* row(int64_t i) const { return data + i * stride; }
  Left<std::remove_const_t<W>> as_left(int64_t first_row) const {
    return {row(first_row), stride, 1};
  }
};

// One session and head.
template <typename W>
struct Task {
  const AttentionParams& params;
  int64_t session;  // its first token
  int64_t head;
  int64_t length;
  int64_t dim;  // of the matrices
  int64_t num_vectors, block_vectors;
  int64_t num_distances;  // of the bias laid out by query - key

  Task(const AttentionParams& p, int64_t which, int64_t which_head)
      : params(p),
        session(p.cu_seqlens[which]),
        head(which_head),
        length(p.cu_seqlens[which + 1] - session),
        dim(p.head_dim < kLanes<W> ? int64_t(kLanes<W>) : p.head_dim),
        num_vectors(padded<W>(length) / kLanes<W>),
        block_vectors(smaller(kBlockVectors, num_vectors)),
        num_distances(p.distance_bias ? 2 * padded<W>(length) + 2 * kLanes<W> : 0) {
    while (block_vectors > 1 && 2 * length * block_vectors * MFGAN_VECTOR_BYTES > kScoreBytes)
      block_vectors /= 2;
  }

  int64_t width() const { return block_vectors * kLanes<W>; }
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

// Consecutive queries: lane l of vector v is query first + v * lanes + l, which may be negative and
// then is none. Vector v sees keys up to seen(v), where causal the last `lanes` of them in part.
template <typename W>
struct Block {
  int64_t first, num_vectors, width;
  bool causal;
  int64_t length;

  Block(const Task<W>& t, int64_t vector) : causal(t.params.causal), length(t.length) {
    // The first block takes what does not fill a whole one: its keys are the fewest.
    const int64_t rest = t.num_vectors % t.block_vectors;
    num_vectors = vector == 0 && rest != 0 ? rest : t.block_vectors;
    width = num_vectors * kLanes<W>;
    first = t.length - (t.num_vectors - vector) * kLanes<W>;
  }

  int64_t begin() const { return not_negative(first); }
  int64_t end() const { return first + width; }
  // Keys that vectors from v on see and those before do not: seen(v - 1) to seen(v).
  int64_t seen(int64_t v) const { return causal ? first + (v + 1) * kLanes<W> : length; }
  // Keys that every query of vector v sees.
  int64_t seen_whole(int64_t v) const {
    return causal ? not_negative(first + v * kLanes<W>) : length;
  }
};

// to[feature][query] from the rows of a block's queries, zero where a lane is none.
template <typename W>
inline void load_columns(const Task<W>& t, const Block<W>& b, Matrix<const W> from, W* to) {
  constexpr int64_t lanes = kLanes<W>;
  for (int64_t l = 0; l < b.width; l += lanes)
    for (int64_t d = 0; d < t.dim; d += lanes) {
      const int64_t column = smaller(d, t.dim - lanes), query = b.first + l;
      Vec<W> square[lanes];
      if (query >= 0) {
#pragma GCC unroll 16
        for (int64_t i = 0; i < lanes; ++i) square[i] = load(from.row(query + i) + column);
      } else {
        for (int64_t i = 0; i < lanes; ++i)
          square[i] = query + i < 0 ? Vec<W>{} : load(from.row(query + i) + column);
      }
      transpose_square<W>(square);
#pragma GCC unroll 16
      for (int64_t i = 0; i < lanes; ++i) store(to + (column + i) * b.width + l, square[i]);
    }
}

// The other way, to the rows of queries that exist.
template <typename W>
inline void store_columns(const Task<W>& t, const Block<W>& b, const W* from, Matrix<W> to) {
  constexpr int64_t lanes = kLanes<W>;
  for (int64_t l = 0; l < b.width; l += lanes)
    for (int64_t d = 0; d < t.dim; d += lanes) {
      const int64_t column = smaller(d, t.dim - lanes), query = b.first + l;
      Vec<W> square[lanes];
#pragma GCC unroll 16
      for (int64_t i = 0; i < lanes; ++i) square[i] = load(from + (column + i) * b.width + l);
      transpose_square<W>(square);
      if (query >= 0) {
#pragma GCC unroll 16
        for (int64_t i = 0; i < lanes; ++i) store(to.row(query + i) + column, square[i]);
      } else {
        for (int64_t i = -query; i < lanes; ++i) store(to.row(query + i) + column, square[i]);
      }
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
inline void make_dropout_keys(const Task<W>& t, const Block<W>& b, DropoutKeys& keys) {
  const AttentionParams& p = t.params;
  for (int64_t l = 0; l < b.width; ++l) {
    const int64_t row = (t.session + b.first + l) * p.num_heads + t.head;
    const RowKey key = row_key(p.seed, p.offset, p.site, row);
    keys.start[l] = key.start;
    keys.flip[l] = key.flip;
  }
}

// The bias by distance, in units of log 2: entry `x` belongs to query - key == x - middle.
template <typename T, typename W>
inline void spread_bias(const Task<W>& t, W* to) {
  const AttentionParams& p = t.params;
  const T* bias = static_cast<const T*>(p.distance_bias) + t.head * p.num_distances;
  const int64_t middle = t.num_distances / 2;
  for (int64_t x = 0; x < t.num_distances; ++x) {
    const int64_t distance = x < middle ? middle - x : x - middle;
    to[x] = cpu::load(bias[smaller(distance, p.num_distances - 1)]) * W(kLog2E);
  }
}

// Scores become logits in units of log 2.
template <typename W>
inline void add_bias(const Task<W>& t, const Block<W>& b, const W* bias, W* scores) {
  const W scale = W(t.params.scale * kLog2E);
  for (int64_t v = 0; v < b.num_vectors; ++v)
    for (int64_t key = 0; key < b.seen(v); ++key) {
      const W* by_distance = bias + t.num_distances / 2 + b.first + v * kLanes<W> - key;
      W* at = scores + key * b.width + v * kLanes<W>;
      store(at, load(at) * scale + load(by_distance));
    }
}

}  // namespace mfgan::cpu::MFGAN_ISA
