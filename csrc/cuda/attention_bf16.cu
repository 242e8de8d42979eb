#include "cuda/attention_plan.cuh"

namespace mfgan::gpu {
MFGAN_INSTANTIATE_ATTENTION(Half<simt::bf16>);
}  // namespace mfgan::gpu
