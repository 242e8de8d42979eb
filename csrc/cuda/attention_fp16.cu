#include "cuda/attention_plan.cuh"

namespace mfgan::gpu {
MFGAN_INSTANTIATE_ATTENTION(Half<simt::half>);
}  // namespace mfgan::gpu
