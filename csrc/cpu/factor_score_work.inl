// Sizes, scratch memory and the sums of a chunk. Follows simd.inl and matmul.inl.
//
// Arrays named `rows` have a (position, candidate) or a key a row, each head padded to whole
// vectors; arrays named `columns` have a feature a row and kPanel (position, candidate)s side by
// side.

namespace mfgan::cpu::MFGAN_ISA {

// (position, candidate)s that go through the matrices together.
constexpr int64_t kPanel = 64;
// Rows of an attention block at a time, and of the gradients of its keys.
constexpr int64_t kRowsAtOnce = 12;
// Zeros on both sides of a row of attention weights: a sheared view of kRowsAtOnce rows reaches
// that far past the keys that a row has.
constexpr int64_t kMargin = 16;
constexpr int64_t kMostBlockRows = 64;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

template <typename T>
struct Sizes {
  int64_t heads, head_dim, dim, width;
  int64_t head_width, row_width;       // a head and all heads, padded
  int64_t dim_width, width_width;      // dim and width, padded
  int64_t max_history, history_width;  // padded, with a vector to spare
  int64_t keys_width;                  // keys of a segment, likewise
  int64_t weights_stride;              // a row of attention weights with its margins

  explicit Sizes(const FactorScoreParams<T>& p, int64_t most_keys = 1)
      : heads(p.num_heads),
        head_dim(p.head_dim),
        dim(p.dim()),
        width(p.width),
        head_width(padded<T>(p.head_dim)),
        row_width(p.num_heads * head_width),
        dim_width(padded<T>(dim)),
        width_width(padded<T>(width)),
        max_history(p.max_history),
        history_width(padded<T>(p.max_history) + kLanes<T>),
        keys_width(padded<T>(most_keys) + kLanes<T>),
        weights_stride(padded<T>(most_keys + 1) + 2 * kMargin) {}
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

// Dropout bits of rows (rng.h).
struct Keys {
  uint32_t* start;
  uint32_t* flip;
};

// Keys and values as the products want them: key and value rows, and with features as rows.
template <typename T>
struct KeyValues {
  T *key_rows, *value_rows, *key_columns, *value_columns;
  int64_t stride;  // of the columns

  void carve(Carver& c, const Sizes<T>& z, int64_t num_keys, int64_t num_columns) {
    stride = num_columns;
    key_rows = c.take<T>(num_keys * z.row_width);
    value_rows = c.take<T>(num_keys * z.row_width);
    key_columns = c.take<T>(z.dim * stride);
    value_columns = c.take<T>(z.dim * stride);
  }
};

template <typename T>
struct Work {
  // Of the group: what the rows are.
  int64_t *place, *table_row;
  Keys weight_keys;  // (heads, rows)
  Keys out_keys, ff_keys;
  // Of the group: query (scaled), the candidate's own key and value with their position, and the
  // attention's output, whose gradient takes its place.
  T *query, *own_key, *own_value, *attended, *grad_attended, *grad_query;
  T *own_logit, *own_probability, *own_weight;  // (rows, heads)
  T* mean_grad;                                 // of the weights, (heads, mean_stride)
  int64_t mean_stride;
  T *probability, *weight;  // (heads, rows, weights_stride)

  KeyValues<T> distance;  // distances from max_history down to 1, as keys ascend
  T *own_position_key, *own_position_value;
  KeyValues<T> segment, block;
  T *block_grad_key, *block_grad_value, *segment_grad_key, *segment_grad_value;
  T* grad_weight;

  // Columns of a panel.
  T *attended_columns, *hidden, *normed, *inner, *outer, *keep_out, *keep_ff, *grad_a, *grad_b,
      *grad_hidden, *score, *rstd, *grad_score;
  T *panel_rows, *inner_rows;

  void carve(Carver& c, const Sizes<T>& z, const ScorePlan& plan, bool with_gradients) {
    const int64_t rows = plan.most_rows, keys = plan.most_segment_keys;
    place = c.take<int64_t>(rows);
    table_row = c.take<int64_t>(rows);
    weight_keys = {c.take<uint32_t>(z.heads * rows), c.take<uint32_t>(z.heads * rows)};
    out_keys = {c.take<uint32_t>(rows + kPanel), c.take<uint32_t>(rows + kPanel)};
    ff_keys = {c.take<uint32_t>(rows + kPanel), c.take<uint32_t>(rows + kPanel)};
    for (T** x : {&query, &own_key, &own_value, &attended, &grad_query})
      *x = c.take<T>(rows * z.row_width);
    grad_attended = attended;
    for (T** x : {&own_logit, &own_probability, &own_weight}) *x = c.take<T>(rows * z.heads);
    weight = c.take<T>(z.heads * rows * z.weights_stride);
    probability = with_gradients ? c.take<T>(z.heads * rows * z.weights_stride) : weight;
    distance.carve(c, z, z.max_history, z.history_width);
    own_position_key = c.take<T>(z.row_width);
    own_position_value = c.take<T>(z.row_width);
    segment.carve(c, z, keys, z.keys_width);
    block.carve(c, z, keys, z.keys_width);
    for (T** x : {&block_grad_key, &block_grad_value, &segment_grad_key, &segment_grad_value})
      *x = c.take<T>(keys * z.row_width);
    grad_weight = c.take<T>(kMostBlockRows * z.weights_stride);
    mean_stride = rows + kLanes<T>;  // written by whole vectors
    mean_grad = c.take<T>(z.heads * mean_stride);
    for (T** x : {&attended_columns, &hidden, &normed, &outer, &keep_out, &keep_ff, &grad_hidden})
      *x = c.take<T>(z.dim * kPanel);
    for (T** x : {&inner, &grad_a, &grad_b}) *x = c.take<T>(larger(z.dim, z.width) * kPanel);
    for (T** x : {&score, &rstd, &grad_score}) *x = c.take<T>(kPanel);
    panel_rows = c.take<T>(kPanel * z.dim_width);
    inner_rows = c.take<T>(kPanel * z.width_width);
  }
};

// What a chunk adds to the gradients of one factor. Biases and the head are kept a lane apart.
template <typename T>
struct Sums {
  T *query, *key, *value, *residual;  // a row for each of the chunk's table rows
  T *distance_key, *distance_value, *own_position_key, *own_position_value;
  T *out_weight, *ff1_weight, *ff2_weight;
  T *ff1_bias, *ff2_bias, *head_weight, *head_bias;
  int64_t size;

  Sums(const Sizes<T>& z, const ScoreChunk& chunk, T* block) {
    Carver c{reinterpret_cast<char*>(block)};
    const int64_t rows = static_cast<int64_t>(chunk.rows.size());
    for (T** x : {&query, &key, &value}) *x = c.take<T>(rows * z.row_width);
    residual = c.take<T>(rows * z.dim_width);
    distance_key = c.take<T>(z.max_history * z.row_width);
    distance_value = c.take<T>(z.max_history * z.row_width);
    own_position_key = c.take<T>(z.row_width);
    own_position_value = c.take<T>(z.row_width);
    out_weight = c.take<T>(z.dim * z.row_width);
    ff1_weight = c.take<T>(z.width * z.dim_width);
    ff2_weight = c.take<T>(z.dim * z.width_width);
    ff1_bias = c.take<T>(z.width * kLanes<T>);
    ff2_bias = c.take<T>(z.dim * kLanes<T>);
    head_weight = c.take<T>(z.dim * kLanes<T>);
    head_bias = c.take<T>(kLanes<T>);
    size = c.used / int64_t(sizeof(T));
  }
};

// One factor of the tables and weights.
template <typename T>
struct FactorSlice {
  const T *query, *key, *value, *residual, *position_key, *position_value;
  const T *out_weight, *ff1_weight, *ff1_bias, *ff2_weight, *ff2_bias, *head_weight, *head_bias;

  FactorSlice(const FactorScoreParams<T>& p, int64_t f) {
    const int64_t d = p.dim(), w = p.width;
    query = p.query + f * p.num_rows * d;
    key = p.key + f * p.num_rows * d;
    value = p.value + f * p.num_rows * d;
    residual = p.residual + f * p.num_rows * d;
    position_key = p.position_key + f * p.num_distances * d;
    position_value = p.position_value + f * p.num_distances * d;
    out_weight = p.out_weight + f * d * d;
    ff1_weight = p.ff1_weight + f * w * d;
    ff1_bias = p.ff1_bias + f * w;
    ff2_weight = p.ff2_weight + f * d * w;
    ff2_bias = p.ff2_bias + f * d;
    head_weight = p.head_weight + f * d;
    head_bias = p.head_bias + f;
  }
};

// Tables are read and their gradients written row by row in no order: asked for in time, a row is
// there when its turn comes.
constexpr int64_t kRowsAhead = 6;

template <typename T>
inline void prefetch_row(const T* row, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / int64_t(sizeof(T))) __builtin_prefetch(row + i);
  __builtin_prefetch(row + count - 1);
}

// A row of features into a row of padded heads, the padding zero.
template <typename T>
inline void spread_heads(const Sizes<T>& z, const T* from, T scale, T* to) {
  for (int64_t h = 0; h < z.heads; ++h, from += z.head_dim, to += z.head_width) {
    store(to + z.head_width - kLanes<T>, Vec<T>{});
    copy_scaled(from, z.head_dim, scale, to);
  }
}

// Features of every head as rows, from rows of padded heads.
template <typename T>
inline void heads_to_columns(const Sizes<T>& z, const T* rows, int64_t num_rows, T* columns,
                             int64_t stride) {
  for (int64_t h = 0; h < z.heads; ++h)
    transpose(rows + h * z.head_width, z.row_width, num_rows, z.head_dim,
              columns + h * z.head_dim * stride, stride);
}

template <typename T>
inline void fill_zero(T* to, int64_t count) {
  __builtin_memset(to, 0, count * sizeof(T));
}

}  // namespace mfgan::cpu::MFGAN_ISA
