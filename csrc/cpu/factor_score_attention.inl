// Attention of candidates over the history before them. Follows factor_score_work.inl.

namespace mfgan::cpu::MFGAN_ISA {

// Which way keys and values are multiplied by: forward takes key columns and value rows, backward
// key rows and value columns.
enum class Pass { kForward, kBackward };

// Consecutive rows of a group that share their keys. Row n sees keys up to last_key(n), and no more
// than max_history of them.
struct Block {
  int64_t first_row;  // in the group
  int64_t num_rows;
  int64_t num_keys;
  int64_t first_last_key;
  bool sheared;  // every row sees one key more than the row before

  int64_t last_key(int64_t row) const { return first_last_key + (sheared ? row : 0); }
};

// The keys that rows n to n + count - 1 of a block see: from `first` to `last`, and in the arrays
// of distances from `first_distance` on, where key k of row n lies at k + distance_shift.
struct Span {
  int64_t count, first, last, first_distance, distance_shift;

  Span(const Block& b, int64_t row, int64_t most, int64_t max_history)
      : count(smaller(most, b.num_rows - row)),
        first(larger(0, b.last_key(row) + 1 - max_history)),
        last(b.last_key(row + count - 1)),
        first_distance(larger(0, max_history - 1 - last)),
        distance_shift(max_history - 1 - b.last_key(row)) {}

  int64_t num_keys() const { return last + 1 - first; }
};

template <typename T>
struct Attention {
  const FactorScoreParams<T>& params;
  const ScorePlan& plan;
  const Sizes<T>& z;
  const FactorSlice<T>& slice;
  const Work<T>& work;

  T* weights_of(T* all, int64_t head, int64_t row) const {
    return all + (head * plan.most_rows + row) * z.weights_stride + kMargin;
  }

  // Scratch of distances and the candidate's own, once a factor.
  void load_distances() const {
    const int64_t last = z.max_history;
    for (int64_t i = 0; i < last; ++i) {
      spread_heads(z, slice.position_key + (last - i) * z.dim, T(1),
                   work.distance.key_rows + i * z.row_width);
      spread_heads(z, slice.position_value + (last - i) * z.dim, T(1),
                   work.distance.value_rows + i * z.row_width);
    }
    heads_to_columns(z, work.distance.key_rows, last, work.distance.key_columns, z.history_width);
    heads_to_columns(z, work.distance.value_rows, last, work.distance.value_columns,
                     z.history_width);
    clear_past(work.distance.key_columns, z.history_width, last);
    clear_past(work.distance.value_columns, z.history_width, last);
    spread_heads(z, slice.position_key, T(1), work.own_position_key);
    spread_heads(z, slice.position_value, T(1), work.own_position_value);
  }

  // Past the last key the columns are finite: products reach there, and nobody looks.
  void clear_past(T* columns, int64_t stride, int64_t num_keys) const {
    for (int64_t i = 0; i < z.dim; ++i) store(columns + i * stride + padded<T>(num_keys), Vec<T>{});
  }

  // Queries and the candidates' own keys and values of a group.
  void load_rows(const ScoreGroup& group) const {
    const T scale = T(1) / sqrt_of(T(z.head_dim));
    for (int64_t row = 0; row < group.num_rows; ++row) {
      const int64_t at = row * z.row_width, from = work.table_row[row] * z.dim;
      const int64_t next = work.table_row[smaller(row + kRowsAhead, group.num_rows - 1)] * z.dim;
      for (const T* table : {slice.query, slice.key, slice.value})
        prefetch_row(table + next, z.dim);
      spread_heads(z, slice.query + from, scale, work.query + at);
      spread_heads(z, slice.key + from, T(1), work.own_key + at);
      spread_heads(z, slice.value + from, T(1), work.own_value + at);
      for (int64_t i = 0; i < z.row_width; i += kLanes<T>) {
        store(work.own_key + at + i, load(work.own_key + at + i) + load(work.own_position_key + i));
        store(work.own_value + at + i,
              load(work.own_value + at + i) + load(work.own_position_value + i));
      }
      for (int64_t h = 0; h < z.heads; ++h)
        work.own_logit[row * z.heads + h] =
            head_dot(work.query + at + h * z.head_width, work.own_key + at + h * z.head_width);
    }
  }

  T head_dot(const T* a, const T* b) const {
    Vec<T> sum{};
    for (int64_t i = 0; i < z.head_width; i += kLanes<T>) sum += load(a + i) * load(b + i);
    return sum_of<T>(sum);
  }

  template <Pass kPass>
  void load_segment(const ScoreSegment& s) const {
    const KeyValues<T>& to = work.segment;
    for (int64_t k = 0; k < s.num_keys; ++k) {
      const int64_t* row = params.history_rows + s.first_key;
      const int64_t from = row[k] * z.dim, next = row[smaller(k + kRowsAhead, s.num_keys - 1)];
      prefetch_row(slice.key + next * z.dim, z.dim);
      prefetch_row(slice.value + next * z.dim, z.dim);
      spread_heads(z, slice.key + from, T(1), to.key_rows + k * z.row_width);
      spread_heads(z, slice.value + from, T(1), to.value_rows + k * z.row_width);
    }
    T* columns = kPass == Pass::kForward ? to.key_columns : to.value_columns;
    heads_to_columns(z, kPass == Pass::kForward ? to.key_rows : to.value_rows, s.num_keys, columns,
                     to.stride);
    clear_past(columns, to.stride, s.num_keys);
  }

  // Calls run(block, keys and values, first of them in the segment) for every block. Where the
  // block is not sheared, terms of item and distance are added up here.
  template <Pass kPass, typename Run>
  void each_block(const ScoreSegment& s, int64_t first_row, const Run& run) const {
    const int64_t num_blocks = s.sheared ? s.num_candidates : s.num_positions;
    const int64_t rows = s.num_rows() / num_blocks;
    for (int64_t i = 0; i < num_blocks; ++i) {
      const int64_t position = s.sheared ? 0 : i;
      const int64_t token = params.positions[plan.order[s.first_position + position]];
      const int64_t last = token - s.first_key;
      if (s.sheared) {
        run(Block{first_row + i * rows, rows, s.num_keys, last, true}, work.segment, int64_t(0));
      } else {
        const int64_t num_keys = smaller(token + 1 - s.session_begin, params.max_history);
        add_distances<kPass>(last + 1 - num_keys, num_keys);
        run(Block{first_row + i * rows, rows, num_keys, num_keys - 1, false}, work.block,
            last + 1 - num_keys);
      }
    }
  }

  template <Pass kPass>
  void add_distances(int64_t first_key, int64_t num_keys) const {
    const int64_t first_distance = z.max_history - num_keys;
    const KeyValues<T>&seg = work.segment, &far = work.distance, &to = work.block;
    const auto add = [](const T* a, const T* b, T* sum, int64_t count) {
      for (int64_t i = 0; i < count; i += kLanes<T>) store(sum + i, load(a + i) + load(b + i));
    };
    const auto add_rows = [&](const T* a, const T* b, T* sum) {
      add(a + first_key * z.row_width, b + first_distance * z.row_width, sum,
          num_keys * z.row_width);
    };
    const auto add_columns = [&](const T* a, const T* b, T* sum) {
      for (int64_t i = 0; i < z.dim; ++i)
        add(a + i * seg.stride + first_key, b + i * far.stride + first_distance,
            sum + i * to.stride, num_keys);
    };
    if (kPass == Pass::kForward) {
      add_columns(seg.key_columns, far.key_columns, to.key_columns);
      add_rows(seg.value_rows, far.value_rows, to.value_rows);
    } else {
      add_rows(seg.key_rows, far.key_rows, to.key_rows);
      add_columns(seg.value_columns, far.value_columns, to.value_columns);
    }
  }

  // to(n, k) = left(n) . column k of the keys or values, each with its distance, for the rows of
  // a span. Elements past the keys that a row sees are left as they come.
  void against_keys(const Block& b, const Span& span, int64_t head, const T* left, const T* columns,
                    int64_t stride, const T* distance_columns, T* to) const {
    const int64_t at = head * z.head_dim;
    const Left<T> rows{left + head * z.head_width, z.row_width, 1};
    matmul(span.count, span.num_keys(), z.head_dim, rows, columns + at * stride + span.first,
           stride, to + span.first, z.weights_stride);
    if (b.sheared)
      matmul(span.count, z.max_history - span.first_distance, z.head_dim, rows,
             distance_columns + at * z.history_width + span.first_distance, z.history_width,
             to + span.first_distance - span.distance_shift, z.weights_stride + 1, true);
  }

  // to(n) = sum over k of weight(n, k) times row k of the keys or values, each with its distance.
  void over_keys(const Block& b, const Span& span, int64_t head, const T* weight, const T* rows,
                 const T* distance_rows, T* to) const {
    const int64_t at = head * z.head_width;
    matmul(span.count, z.head_dim, span.num_keys(),
           Left<T>{weight + span.first, z.weights_stride, 1}, rows + span.first * z.row_width + at,
           z.row_width, to + at, z.row_width);
    if (b.sheared)
      matmul(span.count, z.head_dim, z.max_history - span.first_distance,
             Left<T>{weight + span.first_distance - span.distance_shift, z.weights_stride + 1, 1},
             distance_rows + span.first_distance * z.row_width + at, z.row_width, to + at,
             z.row_width, true);
  }

  // Rows of `attended`, and the weights before and after dropout.
  void attend(const Block& b, const KeyValues<T>& kv) const {
    for (int64_t h = 0; h < z.heads; ++h) {
      for (int64_t n = 0; n < b.num_rows; n += kRowsAtOnce) {
        const Span span(b, n, kRowsAtOnce, z.max_history);
        const int64_t row = b.first_row + n;
        T* probability = weights_of(work.probability, h, row);
        T* weight = weights_of(work.weight, h, row);
        against_keys(b, span, h, work.query + row * z.row_width, kv.key_columns, kv.stride,
                     work.distance.key_columns, probability);
        for (int64_t i = 0; i < span.count; ++i)
          softmax_row(h, row + i, b.last_key(n + i), probability + i * z.weights_stride,
                      weight + i * z.weights_stride);
        over_keys(b, span, h, weight, kv.value_rows, work.distance.value_rows,
                  work.attended + row * z.row_width);
      }
    }
    for (int64_t row = b.first_row; row < b.first_row + b.num_rows; ++row) {
      const int64_t at = row * z.row_width;
      for (int64_t h = 0; h < z.heads; ++h) {
        const T weight = work.own_weight[row * z.heads + h];
        for (int64_t i = at + h * z.head_width; i < at + (h + 1) * z.head_width; i += kLanes<T>)
          store(work.attended + i, load(work.attended + i) + weight * load(work.own_value + i));
      }
    }
  }

  // Logits become probabilities, in place, and weights; `weight` may be the same row. The candidate
  // itself is the key after the last until its own numbers are taken out.
  void softmax_row(int64_t head, int64_t row, int64_t last, T* probability, T* weight) const {
    constexpr int lanes = kLanes<T>;
    const int64_t low = larger(0, last + 1 - z.max_history), first = low / lanes * lanes;
    const int64_t own = row * z.heads + head;
    const Index<T> lane = iota<T>();
    const Vec<T> own_logit = all(work.own_logit[own]), none = all(T(-__builtin_inf()));
    Vec<T> most = own_logit;
    for (int64_t k = first; k <= last + 1; k += lanes) {
      Vec<T> x = lane < Integer<T>(last + 1 - k) ? load(probability + k) : none;
      x = lane == Integer<T>(last + 1 - k) ? own_logit : x;
      x = lane < Integer<T>(low - k) ? none : x;
      store(probability + k, x);
      most = larger<T>(most, x);
    }
    const T peak = largest_of<T>(most);
    Vec<T> sum{};
    for (int64_t k = first; k <= last + 1; k += lanes) {
      const Vec<T> x = exp_of(load(probability + k) - peak);
      store(probability + k, x);
      sum += x;
    }
    const T share = T(1) / sum_of<T>(sum);
    const int64_t at = head * plan.most_rows + row;
    const RowKey key{work.weight_keys.start[at], work.weight_keys.flip[at]};
    const auto distance = __builtin_convertvector(-lane, Words<T>);
    for (int64_t k = first; k <= last + 1; k += lanes) {
      const Vec<T> p = load(probability + k) * share;
      store(probability + k, p);
      if (params.drop_threshold == 0) {
        store(weight + k, p);
        continue;
      }
      const Words<T> bits = random_words<T>(key.start - Words<T>{}, key.flip - Words<T>{},
                                            distance + uint32_t(last + 1 - k));
      store(weight + k, p * keep_factor<T>(bits, params.drop_threshold, params.keep_scale));
    }
    work.own_probability[own] = probability[last + 1];
    work.own_weight[own] = weight[last + 1];
    probability[last + 1] = weight[last + 1] = 0;
    clear_margins(probability, first, last + 1);
    clear_margins(weight, first, last + 1);
  }

  void clear_margins(T* row, int64_t first, int64_t last) const {
    constexpr int lanes = kLanes<T>;
    const int64_t end = first + padded<T>(last + 1 - first);
    for (int64_t i = 0; i < kMargin; i += lanes) {
      store(row + first - kMargin + i, Vec<T>{});
      store(row + end + i, Vec<T>{});
    }
  }
};

}  // namespace mfgan::cpu::MFGAN_ISA
