// Gradients of factor_score_attention.inl, which it follows.

namespace mfgan::cpu::MFGAN_ISA {

template <typename T>
struct AttentionBackward {
  const Attention<T>& forward;
  const ScoreChunk& chunk;
  const Sums<T>& sums;

  // Gradients of a segment's attention: into the chunk's sums, and of its queries into the work's.
  void segment(const ScoreSegment& s, int64_t first_row) const {
    const Sizes<T>& z = forward.z;
    const Work<T>& w = forward.work;
    fill_zero(w.segment_grad_key, s.num_keys * z.row_width);
    fill_zero(w.segment_grad_value, s.num_keys * z.row_width);
    forward.template load_segment<Pass::kBackward>(s);
    forward.template each_block<Pass::kBackward>(
        s, first_row, [&](const Block& b, const KeyValues<T>& kv, int64_t key) {
          own(b);
          T* grad_key = b.sheared ? w.segment_grad_key : w.block_grad_key;
          T* grad_value = b.sheared ? w.segment_grad_value : w.block_grad_value;
          for (int64_t h = 0; h < z.heads; ++h) {
            queries(b, kv, h);
            keys(b, h, w.grad_weight + kMargin, w.query, grad_key, sums.distance_key);
            keys(b, h, forward.weights_of(w.weight, h, b.first_row), w.grad_attended, grad_value,
                 sums.distance_value);
          }
          if (!b.sheared) {
            const int64_t size = b.num_keys * z.row_width, at = key * z.row_width;
            const int64_t past = (z.max_history - b.num_keys) * z.row_width;
            add_twice(grad_key, size, w.segment_grad_key + at, sums.distance_key + past);
            add_twice(grad_value, size, w.segment_grad_value + at, sums.distance_value + past);
          }
        });
    const int32_t* slots = chunk.token_slots.data() + (s.first_key - chunk.first_token);
    for (int64_t k = 0; k < s.num_keys; ++k) {
      const int64_t slot = slots[k], next = slots[smaller(k + kRowsAhead, s.num_keys - 1)];
      prefetch_row(sums.key + next * z.row_width, z.row_width);
      prefetch_row(sums.value + next * z.row_width, z.row_width);
      add_row(w.segment_grad_key + k * z.row_width, sums.key + slot * z.row_width);
      add_row(w.segment_grad_value + k * z.row_width, sums.value + slot * z.row_width);
    }
  }

  // Gradients of a group's tables from those of its rows; `slots` are the rows' own.
  void scatter(const ScoreGroup& group, const int32_t* slots) const {
    const Sizes<T>& z = forward.z;
    const Work<T>& w = forward.work;
    const T scale = T(1) / sqrt_of(T(z.head_dim));
    for (int64_t row = 0; row < group.num_rows; ++row) {
      const int64_t at = row * z.row_width, to = slots[row] * z.row_width;
      const int64_t next = slots[smaller(row + kRowsAhead, group.num_rows - 1)] * z.row_width;
      for (T* table : {sums.query, sums.key, sums.value}) prefetch_row(table + next, z.row_width);
      for (int64_t h = 0; h < z.heads; ++h) {
        const T weight = w.own_weight[row * z.heads + h];
        const T grad_logit = w.own_logit[row * z.heads + h];
        for (int64_t i = h * z.head_width; i < (h + 1) * z.head_width; i += kLanes<T>) {
          const Vec<T> grad_key = grad_logit * load(w.query + at + i);
          const Vec<T> grad_value = weight * load(w.grad_attended + at + i);
          add(grad_key, sums.key + to + i);
          add(grad_key, sums.own_position_key + i);
          add(grad_value, sums.value + to + i);
          add(grad_value, sums.own_position_value + i);
          add(scale * load(w.grad_query + at + i), sums.query + to + i);
        }
      }
    }
  }

 private:
  static void add(Vec<T> x, T* to) { store(to, load(to) + x); }

  void add_row(const T* from, T* to) const {
    for (int64_t i = 0; i < forward.z.row_width; i += kLanes<T>) add(load(from + i), to + i);
  }

  static void add_twice(const T* from, int64_t count, T* a, T* b) {
    for (int64_t i = 0; i < count; i += kLanes<T>) {
      const Vec<T> x = load(from + i);
      add(x, a + i);
      add(x, b + i);
    }
  }

  // The gradient of the logit of the candidate itself takes the place of that logit.
  void own(const Block& b) const {
    const Sizes<T>& z = forward.z;
    const Work<T>& w = forward.work;
    for (int64_t row = b.first_row; row < b.first_row + b.num_rows; ++row)
      for (int64_t h = 0; h < z.heads; ++h) {
        const int64_t at = row * z.row_width + h * z.head_width, i = row * z.heads + h;
        const T mean = w.mean_grad[h * w.mean_stride + row];
        const T grad_weight = forward.head_dot(w.grad_attended + at, w.own_value + at);
        w.own_logit[i] = w.own_weight[i] * grad_weight - w.own_probability[i] * mean;
      }
  }

  // Gradients of one head's logits, and by them of its queries.
  void queries(const Block& b, const KeyValues<T>& kv, int64_t h) const {
    const Sizes<T>& z = forward.z;
    const Work<T>& w = forward.work;
    for (int64_t n = 0; n < b.num_rows; n += kRowsAtOnce) {
      const Span span(b, n, kRowsAtOnce, z.max_history);
      const int64_t row = b.first_row + n;
      T* grad = w.grad_weight + kMargin + n * z.weights_stride;
      forward.against_keys(b, span, h, w.grad_attended + row * z.row_width, kv.value_columns,
                           kv.stride, w.distance.value_columns, grad);
      for (int64_t i = 0; i < span.count; ++i)
        logits_row(h, row + i, b.last_key(n + i), grad + i * z.weights_stride);
      forward.over_keys(b, span, h, grad, kv.key_rows, w.distance.key_rows,
                        w.grad_query + row * z.row_width);
    }
    for (int64_t row = b.first_row; row < b.first_row + b.num_rows; ++row) {
      const T grad_logit = w.own_logit[row * z.heads + h];
      const int64_t at = row * z.row_width + h * z.head_width;
      for (int64_t i = at; i < at + z.head_width; i += kLanes<T>)
        add(grad_logit * load(w.own_key + i), w.grad_query + i);
    }
  }

  // Gradients of the weights become gradients of the logits: with p the probability and w the
  // weight, dropout included, w grad - p mean.
  void logits_row(int64_t h, int64_t row, int64_t last, T* grad) const {
    constexpr int lanes = kLanes<T>;
    const Sizes<T>& z = forward.z;
    const Work<T>& w = forward.work;
    const T* probability = forward.weights_of(w.probability, h, row);
    const T* weight = forward.weights_of(w.weight, h, row);
    const T mean = w.mean_grad[h * w.mean_stride + row];
    const int64_t first = larger(0, last + 1 - z.max_history) / lanes * lanes;
    for (int64_t k = first; k <= last; k += lanes) {
      const Vec<T> p = load(probability + k);
      const Vec<T> x = load(weight + k) * load(grad + k) - p * mean;
      store(grad + k, p > T(0) ? x : Vec<T>{});  // keys out of sight have no number here
    }
    forward.clear_margins(grad, first, last);
  }

  // For one head, grad(k) = sum over rows n of left(n, k) right(n), and the same by distance. Where
  // the block is sheared both are added to, else the keys' are written.
  void keys(const Block& b, int64_t h, const T* left, const T* right, T* grad,
            T* grad_distance) const {
    const Sizes<T>& z = forward.z;
    const int64_t stride = z.weights_stride, head = h * z.head_width;
    right += b.first_row * z.row_width + head;
    for (int64_t k = 0; k < b.num_keys; k += kRowsAtOnce) {
      const int64_t count = smaller(kRowsAtOnce, b.num_keys - k);
      int64_t n = 0, end = b.num_rows;
      if (b.sheared) {  // the rows that see any of these keys
        n = larger(0, k - b.first_last_key);
        end = smaller(end, k + count - 1 + z.max_history - b.first_last_key);
      }
      matmul(count, z.head_dim, end - n, Left<T>{left + n * stride + k, 1, stride},
             right + n * z.row_width, z.row_width, grad + k * z.row_width + head, z.row_width,
             b.sheared);
    }
    if (!b.sheared) return;
    const int64_t last = b.last_key(b.num_rows - 1);
    for (int64_t r = larger(0, z.max_history - 1 - last); r < z.max_history; r += kRowsAtOnce) {
      const int64_t count = smaller(kRowsAtOnce, z.max_history - r);
      // The rows that have a key at any of these distances.
      const int64_t n = larger(0, z.max_history - r - count - b.first_last_key);
      const int64_t key = r - z.max_history + 1 + b.last_key(n);
      matmul(count, z.head_dim, b.num_rows - n, Left<T>{left + n * stride + key, 1, stride + 1},
             right + n * z.row_width, z.row_width, grad_distance + r * z.row_width + head,
             z.row_width, true);
    }
  }
};

}  // namespace mfgan::cpu::MFGAN_ISA
