// dense.h for one instruction set (each_isa.h). Follows simd.inl and matmul.inl.

namespace mfgan::cpu::MFGAN_ISA {

template <typename T>
inline void row_to_wide(const T* from, int64_t n, T* to) {
  __builtin_memcpy(to, from, n * sizeof(T));
}
template <typename E, typename T>
inline void row_to_wide(const E* from, int64_t n, T* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = ::mfgan::cpu::load(from[i]);
}

template <typename T>
inline void row_from_wide(const T* from, int64_t n, T* to) {
  __builtin_memcpy(to, from, n * sizeof(T));
}
template <typename E, typename T>
inline void row_from_wide(const T* from, int64_t n, E* to) {
  for (int64_t i = 0; i < n; ++i) ::mfgan::cpu::store(to + i, from[i]);
}

// x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3): the tanh form of GELU, and its derivative.
template <typename T>
struct Gelu {
  Vec<T> value, slope;
  explicit Gelu(Vec<T> x) {
    const T c = T(1.5957691216057308), cubic = T(0.044715);  // 2 sqrt(2 / pi)
    const Vec<T> square = x * x, u = c * x * (T(1) + cubic * square);
    const Vec<T> small = exp_of(u < T(0) ? u : -u);
    const Vec<T> gate = (u < T(0) ? small : all(T(1))) / (T(1) + small);
    value = x * gate;
    slope = gate + value * (T(1) - gate) * (c * (T(1) + T(3) * cubic * square));
  }
};

template <typename T>
inline Vec<T> activated(Activation activation, Vec<T> x) {
  if (activation == Activation::kRelu) return x <= T(0) ? Vec<T>{} : x;  // a NaN stays
  if (activation == Activation::kGelu) return Gelu<T>(x).value;
  return x;
}

template <typename T>
inline Vec<T> slope_of(Activation activation, Vec<T> x) {
  if (activation == Activation::kRelu) return x > T(0) ? all(T(1)) : Vec<T>{};
  return Gelu<T>(x).slope;
}

template <typename E>
struct DensePanel {
  using T = Wide<E>;
  const DenseParams<E>& p;
  T* normed;  // (kDensePanel, in_stride)
  T* rstd;    // (kDensePanel,)
  T* mapped;  // (kDensePanel, out_stride)
  T* grad;    // (kDensePanel, in_stride), of `normed`
  T* line_a;  // rows of a half type, widened
  T* line_b;

  explicit DensePanel(const DenseParams<E>& params) : p(params) {
    const int64_t widest = p.in_stride > p.out_stride ? p.in_stride : p.out_stride;
    const int64_t total =
        kDensePanel * (2 * p.in_stride + p.out_stride + kDensePadding) + 2 * widest;
    T* at = static_cast<T*>(::mfgan::cpu::scratch(total * sizeof(T)));
    normed = at, at += kDensePanel * p.in_stride;
    mapped = at, at += kDensePanel * p.out_stride;
    grad = at, at += kDensePanel * p.in_stride;
    rstd = at, at += kDensePanel * kDensePadding;
    line_a = at, at += widest;
    line_b = at;
    // Numbers between a row's end and its stride take part in products whose results nobody reads.
    for (T* x = normed; x < line_b + widest; ++x) *x = 0;
  }

  // Rows of the input in `normed`, brought to mean 0 and variance 1 where there is a norm.
  void load_input(int64_t first, int64_t count) const {
    const int64_t n = p.num_in;
    for (int64_t r = 0; r < count; ++r) {
      T* row = normed + r * p.in_stride;
      row_to_wide(p.x + (first + r) * n, n, row);
      if (!p.norm) continue;
      T mean = 0;
      Vec<T> squares{};
      if (p.centred) {
        Vec<T> sum{};
        for (int64_t i = 0; i < in_width(); i += kLanes<T>) sum += load(row + i);
        mean = sum_of<T>(sum) / T(n);
        for (int64_t i = 0; i < in_width(); i += kLanes<T>) store(row + i, load(row + i) - mean);
        for (int64_t i = n; i < in_width(); ++i) row[i] = 0;
      }
      for (int64_t i = 0; i < in_width(); i += kLanes<T>) squares += load(row + i) * load(row + i);
      const T scale = T(1) / sqrt_of(sum_of<T>(squares) / T(n) + T(p.eps));
      rstd[r] = scale;
      for (int64_t i = 0; i < in_width(); i += kLanes<T>) store(row + i, load(row + i) * scale);
    }
  }

  void forward(int64_t first, int64_t count) const {
    load_input(first, count);
    matmul(count, p.num_out, p.num_in, Left<T>{normed, p.in_stride, 1}, p.weight, p.out_stride,
           mapped, p.out_stride);
    for (int64_t r = 0; r < count; ++r) {
      const int64_t at = (first + r) * p.num_out;
      T* row = mapped + r * p.out_stride;
      const RowKey key = row_key(p.seed, p.offset, p.site, first + r);
      for (int64_t i = 0; i < out_width(); i += kLanes<T>)
        store(row + i, load(row + i) + load(p.bias + i));
      if (p.before) row_from_wide(row, p.num_out, p.before + at);
      if (p.residual) row_to_wide(p.residual + at, p.num_out, line_a);
      for (int64_t i = 0; i < out_width(); i += kLanes<T>) {
        Vec<T> x = activated<T>(p.activation, load(row + i));
        if (p.drop_threshold) x = dropped(key, i, x);
        if (p.residual) x += load(line_a + i);
        store(row + i, x);
      }
      row_from_wide(row, p.num_out, p.out + at);
    }
  }

  void backward(int64_t first, int64_t count, const E* grad_out, E* grad_x, T* grad_weight,
                T* grad_bias) const {
    load_input(first, count);
    for (int64_t r = 0; r < count; ++r) {
      const int64_t at = (first + r) * p.num_out;
      T* row = mapped + r * p.out_stride;
      const RowKey key = row_key(p.seed, p.offset, p.site, first + r);
      row_to_wide(grad_out + at, p.num_out, line_a);
      if (p.before) row_to_wide(p.before + at, p.num_out, line_b);
      for (int64_t i = 0; i < out_width(); i += kLanes<T>) {
        Vec<T> x = load(line_a + i);
        if (p.drop_threshold) x = dropped(key, i, x);
        if (p.before) x *= slope_of<T>(p.activation, load(line_b + i));
        store(row + i, x);
        store(grad_bias + i, load(grad_bias + i) + x);
      }
    }
    matmul(p.num_out, p.num_in, count, Left<T>{mapped, 1, p.out_stride}, normed, p.in_stride,
           grad_weight, p.in_stride, true);
    matmul(count, p.num_in, p.num_out, Left<T>{mapped, p.out_stride, 1}, p.weight, p.in_stride,
           grad, p.in_stride);
    for (int64_t r = 0; r < count; ++r) {
      T* row = grad + r * p.in_stride;
      if (p.norm) through_norm(normed + r * p.in_stride, rstd[r], row);
      row_from_wide(row, p.num_in, grad_x + (first + r) * p.num_in);
    }
  }

 private:
  // As far as products reach; what lies beyond, up to the strides, is neither read nor written.
  int64_t in_width() const { return padded<T>(p.num_in); }
  int64_t out_width() const { return padded<T>(p.num_out); }

  Vec<T> dropped(RowKey key, int64_t column, Vec<T> x) const {
    const Words<T> columns = __builtin_convertvector(iota<T>(), Words<T>) + uint32_t(column);
    const Words<T> bits = random_words<T>(key.start - Words<T>{}, key.flip - Words<T>{}, columns);
    return kept_or_zero<T>(bits, p.drop_threshold, x * T(p.keep_scale));
  }

  // The gradient of the norm's input from that of its result.
  void through_norm(const T* normed_row, T scale, T* row) const {
    const T share = T(1) / T(p.num_in);
    Vec<T> sum{}, along{};
    for (int64_t i = 0; i < in_width(); i += kLanes<T>) {
      sum += load(row + i);
      along += load(row + i) * load(normed_row + i);
    }
    const T mean = p.centred ? sum_of<T>(sum) * share : T(0), slope = sum_of<T>(along) * share;
    for (int64_t i = 0; i < in_width(); i += kLanes<T>)
      store(row + i, scale * (load(row + i) - mean - slope * load(normed_row + i)));
  }
};

template <typename E>
void dense_forward(const DenseParams<E>& p, int64_t first_panel, int64_t last_panel) {
  const DensePanel<E> panel(p);
  for (int64_t i = first_panel; i < last_panel; ++i) {
    const int64_t first = i * kDensePanel, left = p.num_rows - first;
    panel.forward(first, left < kDensePanel ? left : kDensePanel);
  }
}

template <typename E>
void dense_backward(const DenseParams<E>& p, const E* grad_out, E* grad_x, Wide<E>* grad_weight,
                    Wide<E>* grad_bias, int64_t first_row, int64_t last_row) {
  const DensePanel<E> panel(p);
  for (int64_t first = first_row; first < last_row; first += kDensePanel) {
    const int64_t left = last_row - first;
    panel.backward(first, left < kDensePanel ? left : kDensePanel, grad_out, grad_x, grad_weight,
                   grad_bias);
  }
}

}  // namespace mfgan::cpu::MFGAN_ISA
