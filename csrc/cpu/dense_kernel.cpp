#include <cstdint>
#include <utility>

#include "cpu/dense.h"
#include "cpu/isa.h"
#include "cpu/scratch.h"
#include "rng.h"

#define MFGAN_KERNEL_FILE "cpu/dense_pass.inl"
#include "cpu/each_isa.h"

namespace mfgan::cpu {

template <typename E>
void dense_forward(const DenseParams<E>& params, int64_t first_panel, int64_t last_panel) {
  MFGAN_FOR_THIS_MACHINE(dense_forward<E>)(params, first_panel, last_panel);
}

template <typename E>
void dense_backward(const DenseParams<E>& params, const E* grad_out, E* grad_x,
                    Wide<E>* grad_weight, Wide<E>* grad_bias, int64_t first_row, int64_t last_row) {
  MFGAN_FOR_THIS_MACHINE(dense_backward<E>)
  (params, grad_out, grad_x, grad_weight, grad_bias, first_row, last_row);
}

#define MFGAN_INSTANTIATE(E)                                                               \
  template void dense_forward<E>(const DenseParams<E>&, int64_t, int64_t);                 \
  template void dense_backward<E>(const DenseParams<E>&, const E*, E*, Wide<E>*, Wide<E>*, \
                                  int64_t, int64_t);
MFGAN_INSTANTIATE(float)
MFGAN_INSTANTIATE(double)
MFGAN_INSTANTIATE(BFloat16)
MFGAN_INSTANTIATE(Half)

}  // namespace mfgan::cpu
