#include <cstdint>
#include <type_traits>
#include <utility>

#include "cpu/dropout.h"
#include "cpu/isa.h"
#include "rng.h"

#define MFGAN_KERNEL_FILE "cpu/dropout_pass.inl"
#include "cpu/each_isa.h"

namespace mfgan::cpu {

template <typename T>
void dropout_residual_rows(const DropoutParams& params, const T* x, const T* residual, T* out,
                           int64_t first_row, int64_t last_row) {
  MFGAN_FOR_THIS_MACHINE(dropout_rows<T>)(params, x, residual, out, first_row, last_row);
}

#define MFGAN_INSTANTIATE(T)                                                                    \
  template void dropout_residual_rows<T>(const DropoutParams&, const T*, const T*, T*, int64_t, \
                                         int64_t);
MFGAN_INSTANTIATE(float)
MFGAN_INSTANTIATE(double)
MFGAN_INSTANTIATE(BFloat16)
MFGAN_INSTANTIATE(Half)

}  // namespace mfgan::cpu
