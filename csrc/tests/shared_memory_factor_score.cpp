#include <algorithm>
#include <cstdlib>

#include "cuda/factor_score_plan.cuh"
#include "shared_memory.h"

namespace mfgan::gpu {
namespace {

// `small`: of sizes with no more than so many features or so wide a feed-forward layer.
template <typename Arithmetic, int kDim>
void print_launches(const char* name, int small_dim, int small_width) {
  size_t forward = 0, grad_rows = 0, small = 0;
  ScoreParams p{};
  for (p.dim = 1; p.dim <= kMaxScoreDim; ++p.dim) {
    for (p.width = 1; p.width <= kMaxScoreWidth; ++p.width) {
      const auto of_forward = [&](int warps) {
        return score_forward_shared_bytes<Arithmetic, kDim>(p, warps);
      };
      const int warps = grad_rows_warps<Arithmetic, kDim>(p);
      const size_t bytes[] = {of_forward(score_warps(of_forward)),
                              score_grad_rows_shared_bytes<Arithmetic, kDim>(p, warps)};
      forward = std::max(forward, bytes[0]);
      grad_rows = std::max(grad_rows, bytes[1]);
      if (p.dim <= small_dim || p.width <= small_width)
        small = std::max({small, bytes[0], bytes[1]});
    }
  }
  print("factor_score_small", name, kDim, small);
  print("factor_score_forward", name, kDim, forward);
  print("factor_score_grad_rows", name, kDim, grad_rows);
  print("factor_score_grad_keys", name, kDim, kScoreWarps * kScoreGradKeysBytes<Arithmetic, kDim>);
}

}  // namespace
}  // namespace mfgan::gpu

// Arguments: what `small` means.
int main(int, char** arguments) {
  using namespace mfgan::gpu;
  const int small_dim = std::atoi(arguments[1]), small_width = std::atoi(arguments[2]);
  for_each_instantiation([&](auto arithmetic, auto dim, const char* name) {
    print_launches<decltype(arithmetic), decltype(dim)::value>(name, small_dim, small_width);
  });
  print("score_table_grads", "any", 0, kScoreSumBytes);
}
