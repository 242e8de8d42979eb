// From attention outputs to logits, and back, a panel of (position, candidate)s at a time. Follows
// factor_score_work.inl.

namespace mfgan::cpu::MFGAN_ISA {

template <typename T>
struct Dense {
  const FactorScoreParams<T>& params;
  const Sizes<T>& z;
  const FactorSlice<T>& slice;
  const Work<T>& work;

  // Calls run(feature, its row of kPanel numbers' offset) for every vector of a panel.
  template <typename Run>
  static void each_vector(int64_t num_features, int64_t columns, const Run& run) {
    for (int64_t i = 0; i < num_features; ++i)
      for (int64_t n = 0; n < columns; n += kLanes<T>) run(i, n, i * kPanel + n);
  }

  // `work.score` of the rows first to first + count - 1 of a group.
  void forward(int64_t first, int64_t count) const {
    const Work<T>& w = work;
    const int64_t d = z.dim, columns = padded<T>(count);
    heads_to_columns(z, w.attended + first * z.row_width, count, w.attended_columns, kPanel);
    matmul(d, columns, d, Left<T>{slice.out_weight, d, 1}, w.attended_columns, kPanel, w.outer,
           kPanel);
    load_residual(first, count);
    keep_factors(w.out_keys, first, columns, w.keep_out);
    keep_factors(w.ff_keys, first, columns, w.keep_ff);
    each_vector(d, columns, [&](int64_t, int64_t, int64_t at) {
      const Vec<T> x = load(w.outer + at);
      const Vec<T> kept = params.drop_threshold ? x * load(w.keep_out + at) : x;
      store(w.hidden + at, load(w.hidden + at) + kept);
    });
    normalise(columns);
    matmul(z.width, columns, d, Left<T>{slice.ff1_weight, d, 1}, w.normed, kPanel, w.inner, kPanel);
    each_vector(z.width, columns, [&](int64_t i, int64_t, int64_t at) {
      store(w.inner + at, larger<T>(load(w.inner + at) + slice.ff1_bias[i], Vec<T>{}));
    });
    matmul(d, columns, z.width, Left<T>{slice.ff2_weight, z.width, 1}, w.inner, kPanel, w.outer,
           kPanel);
    for (int64_t n = 0; n < columns; n += kLanes<T>) store(w.score + n, all(slice.head_bias[0]));
    each_vector(d, columns, [&](int64_t i, int64_t n, int64_t at) {
      const Vec<T> x = load(w.outer + at) + slice.ff2_bias[i];
      const Vec<T> kept = params.drop_threshold ? x * load(w.keep_ff + at) : x;
      const Vec<T> out = load(w.hidden + at) + kept;
      store(w.outer + at, out);
      store(w.score + n, load(w.score + n) + slice.head_weight[i] * out);
    });
  }

  // After forward, from `work.grad_score`, which is zero past `count`: the gradient of the rows of
  // `work.attended`, and into the sums those of the weights and of the residual table.
  void backward(int64_t first, int64_t count, const int32_t* slots, const Sums<T>& sums) const {
    const Work<T>& w = work;
    const int64_t d = z.dim, columns = padded<T>(count);
    T *grad_outer = w.grad_a, *grad_inner = w.grad_b;
    for (int64_t n = 0; n < columns; n += kLanes<T>) add(load(w.grad_score + n), sums.head_bias);
    each_vector(d, columns, [&](int64_t i, int64_t n, int64_t at) {
      const Vec<T> grad = load(w.grad_score + n);
      const Vec<T> grad_out = slice.head_weight[i] * grad;
      const Vec<T> x = params.drop_threshold ? grad_out * load(w.keep_ff + at) : grad_out;
      store(w.grad_hidden + at, grad_out);
      store(grad_outer + at, x);
      add(load(w.outer + at) * grad, sums.head_weight + i * kLanes<T>);
      add(x, sums.ff2_bias + i * kLanes<T>);
    });
    transpose(w.inner, kPanel, z.width, columns, w.inner_rows, z.width_width);
    matmul(d, z.width, count, Left<T>{grad_outer, kPanel, 1}, w.inner_rows, z.width_width,
           sums.ff2_weight, z.width_width, true);
    matmul(z.width, columns, d, Left<T>{slice.ff2_weight, 1, z.width}, grad_outer, kPanel,
           grad_inner, kPanel);
    each_vector(z.width, columns, [&](int64_t i, int64_t, int64_t at) {
      const Vec<T> x = load(w.inner + at) > T(0) ? load(grad_inner + at) : Vec<T>{};
      store(grad_inner + at, x);
      add(x, sums.ff1_bias + i * kLanes<T>);
    });
    transpose(w.normed, kPanel, d, columns, w.panel_rows, z.dim_width);
    matmul(z.width, d, count, Left<T>{grad_inner, kPanel, 1}, w.panel_rows, z.dim_width,
           sums.ff1_weight, z.dim_width, true);
    matmul(d, columns, z.width, Left<T>{slice.ff1_weight, 1, d}, grad_inner, kPanel, w.grad_a,
           kPanel);
    normalise_backward(columns, w.grad_a);
    for (int64_t n = 0; n < count; ++n)
      prefetch_row(sums.residual + slots[first + n] * z.dim_width, z.dim_width);
    transpose(w.grad_hidden, kPanel, d, columns, w.panel_rows, z.dim_width);
    for (int64_t n = 0; n < count; ++n) {
      T* to = sums.residual + slots[first + n] * z.dim_width;
      for (int64_t i = 0; i < z.dim_width; i += kLanes<T>)
        add(load(w.panel_rows + n * z.dim_width + i), to + i);
    }
    if (params.drop_threshold)
      each_vector(d, columns, [&](int64_t, int64_t, int64_t at) {
        store(w.grad_hidden + at, load(w.grad_hidden + at) * load(w.keep_out + at));
      });
    matmul(d, z.row_width, count, Left<T>{w.grad_hidden, kPanel, 1},
           w.attended + first * z.row_width, z.row_width, sums.out_weight, z.row_width, true);
    matmul(d, columns, d, Left<T>{slice.out_weight, 1, d}, w.grad_hidden, kPanel, w.grad_a, kPanel);
    for (int64_t h = 0; h < z.heads; ++h) {
      const int64_t at = h * z.head_dim * kPanel;
      // A row's weighted mean of the gradients of its weights is this product.
      for (int64_t n = 0; n < columns; n += kLanes<T>) {
        Vec<T> mean{};
        for (int64_t i = at + n; i < at + z.head_dim * kPanel; i += kPanel)
          mean += load(w.grad_a + i) * load(w.attended_columns + i);
        store(w.mean_grad + h * w.mean_stride + first + n, mean);
      }
      transpose(w.grad_a + at, kPanel, z.head_dim, count,
                w.grad_attended + first * z.row_width + h * z.head_width, z.row_width);
    }
  }

 private:
  static void add(Vec<T> x, T* to) { store(to, load(to) + x); }

  // The residual of the candidates, as columns of `hidden`.
  void load_residual(int64_t first, int64_t count) const {
    for (int64_t n = 0; n < count; ++n)
      prefetch_row(slice.residual + work.table_row[first + n] * z.dim, z.dim);
    for (int64_t n = 0; n < count; ++n)
      copy_scaled(slice.residual + work.table_row[first + n] * z.dim, z.dim, T(1),
                  work.panel_rows + n * z.dim_width);
    transpose(work.panel_rows, z.dim_width, count, z.dim, work.hidden, kPanel);
  }

  void keep_factors(const Keys& keys, int64_t first, int64_t columns, T* to) const {
    if (!params.drop_threshold) return;
    for (int64_t n = 0; n < columns; n += kLanes<T>) {
      const Words<T> start = load_words<T>(keys.start + first + n);
      const Words<T> flip = load_words<T>(keys.flip + first + n);
      for (int64_t i = 0; i < z.dim; ++i) {
        const Words<T> bits = random_words<T>(start, flip, uint32_t(i) - Words<T>{});
        store(to + i * kPanel + n, keep_factor<T>(bits, params.drop_threshold, params.keep_scale));
      }
    }
  }

  void normalise(int64_t columns) const {
    const Work<T>& w = work;
    const T share = T(1) / T(z.dim);
    for (int64_t n = 0; n < columns; n += kLanes<T>) {
      Vec<T> mean{}, variance{};
      for (int64_t i = 0; i < z.dim; ++i) mean += load(w.hidden + i * kPanel + n);
      mean *= share;
      for (int64_t i = 0; i < z.dim; ++i) {
        const Vec<T> x = load(w.hidden + i * kPanel + n) - mean;
        store(w.normed + i * kPanel + n, x);
        variance += x * x;
      }
      variance = variance * share + T(1e-5);
      Vec<T> rstd;
      for (int lane = 0; lane < kLanes<T>; ++lane) rstd[lane] = T(1) / sqrt_of(variance[lane]);
      store(w.rstd + n, rstd);
      for (int64_t i = 0; i < z.dim; ++i)
        store(w.normed + i * kPanel + n, load(w.normed + i * kPanel + n) * rstd);
    }
  }

  // Adds to `grad_hidden` what comes through the layer norm.
  void normalise_backward(int64_t columns, const T* grad) const {
    const Work<T>& w = work;
    const T share = T(1) / T(z.dim);
    for (int64_t n = 0; n < columns; n += kLanes<T>) {
      Vec<T> mean{}, along{};
      for (int64_t i = 0; i < z.dim; ++i) {
        const Vec<T> x = load(grad + i * kPanel + n);
        mean += x;
        along += x * load(w.normed + i * kPanel + n);
      }
      mean *= share;
      along *= share;
      const Vec<T> rstd = load(w.rstd + n);
      for (int64_t i = 0; i < z.dim; ++i) {
        const int64_t at = i * kPanel + n;
        add(rstd * (load(grad + at) - mean - load(w.normed + at) * along), w.grad_hidden + at);
      }
    }
  }
};

}  // namespace mfgan::cpu::MFGAN_ISA
