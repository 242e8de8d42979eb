#include "cuda/factor_score_plan.cuh"

namespace mfgan::gpu {
MFGAN_INSTANTIATE_SCORE(Half<simt::bf16>);
}  // namespace mfgan::gpu
