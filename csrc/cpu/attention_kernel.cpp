#include <cstdint>
#include <type_traits>
#include <utility>

#include "cpu/attention.h"
#include "cpu/isa.h"
#include "cpu/scratch.h"
#include "rng.h"

namespace mfgan::cpu {
using TakeScratch = void* (*)(int64_t num_bytes);
}

#define MFGAN_KERNEL_FILE "cpu/attention_pass.inl"
#include "cpu/each_isa.h"

namespace mfgan::cpu {

template <typename T>
void attention_forward(const AttentionParams& params, const AttentionRange& range, T* out,
                       Wide<T>* lse) {
  MFGAN_FOR_THIS_MACHINE(attention_forward<T>)(params, range, out, lse, scratch);
}

template <typename T>
void attention_backward(const AttentionParams& params, const AttentionRange& range,
                        const Rows& grad_out, T* grad_q, T* grad_k, T* grad_v, double* grad_bias) {
  MFGAN_FOR_THIS_MACHINE(attention_backward<T>)
  (params, range, grad_out, grad_q, grad_k, grad_v, grad_bias, scratch);
}

#define MFGAN_INSTANTIATE(T)                                                                       \
  template void attention_forward<T>(const AttentionParams&, const AttentionRange&, T*, Wide<T>*); \
  template void attention_backward<T>(const AttentionParams&, const AttentionRange&, const Rows&,  \
                                      T*, T*, T*, double*);
MFGAN_INSTANTIATE(float)
MFGAN_INSTANTIATE(double)
MFGAN_INSTANTIATE(BFloat16)
MFGAN_INSTANTIATE(Half)

}  // namespace mfgan::cpu
