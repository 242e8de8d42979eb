#include "cuda/attention_plan.cuh"

namespace mfgan::gpu {
MFGAN_INSTANTIATE_ATTENTION(Tf32);
}  // namespace mfgan::gpu
