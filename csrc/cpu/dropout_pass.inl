// residual + dropout(x) for one instruction set.

// clang-format off: each needs the ones before it
#include "cpu/simd.inl"
#include "cpu/narrow.inl"
// clang-format on

namespace mfgan::cpu::MFGAN_ISA {

// What every row shares, by value: rows are stored as bytes, which might be those of the parameters.
template <typename W>
struct DropoutOfRow {
  int64_t num_columns;
  uint32_t threshold;
  W scale;

  W operator()(RowKey key, int64_t column, W x) const {
    return keeps(key, static_cast<uint32_t>(column), threshold) ? scale * x : W(0);
  }
};

// The columns of one row; the last vector may overlap the one before.
template <bool kResidual, typename T, typename W>
inline void dropout_row(DropoutOfRow<W> p, RowKey key, const T* x, const T* residual, T* out) {
  constexpr int64_t lanes = kLanes<W>;
  const Words<W> start = key.start - Words<W>{}, flip = key.flip - Words<W>{};
  const Words<W> lane = __builtin_convertvector(iota<W>(), Words<W>);
  const auto run = [&](int64_t column) __attribute__((always_inline)) {
    const Words<W> words = random_words<W>(start, flip, lane + uint32_t(column));
    Vec<W> value = kept_or_zero<W>(words, p.threshold, load_wide(x + column) * p.scale);
    if constexpr (kResidual) value += load_wide(residual + column);
    store_narrow(out + column, value);
  };
  int64_t column = 0;
  for (; column + lanes <= p.num_columns; column += lanes) run(column);
  if (column == p.num_columns) return;
  if (p.num_columns >= lanes) return run(p.num_columns - lanes);
  for (; column < p.num_columns; ++column) {
    W value = p(key, column, cpu::load(x[column]));
    if constexpr (kResidual) value += cpu::load(residual[column]);
    cpu::store(out + column, value);
  }
}

template <bool kResidual, typename T>
inline void dropout_of_rows(const DropoutParams& params, const T* x, const T* residual, T* out,
                            int64_t first_row, int64_t last_row) {
  using W = Wide<T>;
  const DropoutOfRow<W> p{params.num_columns, params.drop_threshold, W(params.keep_scale)};
  const uint64_t place = place_key(params.seed, params.offset, params.site);
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t at = row * p.num_columns;
    dropout_row<kResidual>(p, row_key(place, row), x + at, kResidual ? residual + at : nullptr,
                           out + at);
  }
}

template <typename T>
void dropout_rows(const DropoutParams& params, const T* x, const T* residual, T* out,
                  int64_t first_row, int64_t last_row) {
  if (residual)
    dropout_of_rows<true>(params, x, residual, out, first_row, last_row);
  else
    dropout_of_rows<false>(params, x, residual, out, first_row, last_row);
}

}  // namespace mfgan::cpu::MFGAN_ISA
