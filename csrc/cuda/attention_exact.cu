#include "cuda/attention_plan.cuh"

namespace mfgan::gpu {
MFGAN_INSTANTIATE_ATTENTION(Exact);
}  // namespace mfgan::gpu
