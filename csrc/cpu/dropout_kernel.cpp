#include "cpu/dropout.h"
#include "rng.h"

namespace mfgan::cpu {

template <typename T>
void dropout_residual_rows(const DropoutParams& p, const T* x, const T* residual, T* out,
                           int64_t first_row, int64_t last_row) {
  using W = Wide<T>;
  for (int64_t row = first_row; row < last_row; ++row) {
    const RowKey key = row_key(p.seed, p.offset, p.site, row);
    const int64_t at = row * p.num_columns;
    for (int64_t column = 0; column < p.num_columns; ++column) {
      const bool kept = keeps(key, static_cast<uint32_t>(column), p.drop_threshold);
      W value = kept ? static_cast<W>(p.keep_scale) * load(x[at + column]) : 0;
      if (residual) value += load(residual[at + column]);
      store(out + at + column, value);
    }
  }
}

#define MFGAN_INSTANTIATE(T)                                                                    \
  template void dropout_residual_rows<T>(const DropoutParams&, const T*, const T*, T*, int64_t, \
                                         int64_t);
MFGAN_INSTANTIATE(float)
MFGAN_INSTANTIATE(double)
MFGAN_INSTANTIATE(BFloat16)
MFGAN_INSTANTIATE(Half)

}  // namespace mfgan::cpu
