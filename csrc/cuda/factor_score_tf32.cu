#include "cuda/factor_score_plan.cuh"

namespace mfgan::gpu {
MFGAN_INSTANTIATE_SCORE(Tf32);
}  // namespace mfgan::gpu
