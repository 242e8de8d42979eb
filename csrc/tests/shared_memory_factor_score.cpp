#include <algorithm>

#include "cuda/factor_score_plan.cuh"
#include "shared_memory.h"

namespace mfgan::gpu {
namespace {

template <typename Arithmetic, int kDim>
void print_launches(const char* name) {
  size_t forward = 0, grad_rows = 0;
  ScoreParams p{};
  for (p.dim = 1; p.dim <= kMaxScoreDim; ++p.dim) {
    for (p.width = 1; p.width <= kMaxScoreWidth; ++p.width) {
      const auto of_forward = [&](int warps) {
        return score_forward_shared_bytes<Arithmetic, kDim>(p, warps);
      };
      forward = std::max(forward, of_forward(score_warps(of_forward)));
      const int warps = grad_rows_warps<Arithmetic, kDim>(p);
      grad_rows = std::max(grad_rows, score_grad_rows_shared_bytes<Arithmetic, kDim>(p, warps));
    }
  }
  print("factor_score_forward", name, kDim, forward);
  print("factor_score_grad_rows", name, kDim, grad_rows);
  print("factor_score_grad_keys", name, kDim, kScoreWarps * kScoreGradKeysBytes<Arithmetic, kDim>);
}

}  // namespace
}  // namespace mfgan::gpu

int main() {
  using namespace mfgan::gpu;
  for_each_instantiation([](auto arithmetic, auto dim, const char* name) {
    print_launches<decltype(arithmetic), decltype(dim)::value>(name);
  });
  print("score_table_grads", "any", 0, kScoreSumBytes);
}
