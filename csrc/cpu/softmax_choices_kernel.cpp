#include <cstdint>
#include <type_traits>
#include <utility>

#include "cpu/isa.h"
#include "cpu/scratch.h"
#include "cpu/softmax_choices.h"

#define MFGAN_KERNEL_FILE "cpu/softmax_choices_pass.inl"
#include "cpu/each_isa.h"

namespace mfgan::cpu {

template <typename T>
void softmax_choices_of_rows(const SoftmaxChoices<T>& p, int64_t first_row, int64_t last_row) {
  constexpr int64_t kWidestPair = 128 / sizeof(Wide<T>);
  auto* shares = static_cast<Wide<T>*>(scratch((p.num_columns + kWidestPair) * sizeof(Wide<T>)));
  MFGAN_FOR_THIS_MACHINE(softmax_choices_of<T>)(p, shares, first_row, last_row);
}

#define MFGAN_INSTANTIATE(T) \
  template void softmax_choices_of_rows<T>(const SoftmaxChoices<T>&, int64_t, int64_t);
MFGAN_INSTANTIATE(float)
MFGAN_INSTANTIATE(double)
MFGAN_INSTANTIATE(BFloat16)
MFGAN_INSTANTIATE(Half)

}  // namespace mfgan::cpu
