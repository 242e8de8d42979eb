#include <algorithm>

#include "cuda/attention_plan.cuh"
#include "shared_memory.h"

namespace mfgan::gpu {
namespace {

template <typename Arithmetic, int kDim>
void print_launches(const char* name) {
  constexpr int kMany = forward_columns<Arithmetic, kDim, kManyWarps>();
  constexpr int kFew = forward_columns<Arithmetic, kDim, kFewWarps>();
  constexpr int kBack = backward_columns<Arithmetic, kDim>();
  print("attention_forward", name, kDim,
        std::max(attention_forward_shared_bytes<Arithmetic, kDim, kManyWarps, kMany>(),
                 attention_forward_shared_bytes<Arithmetic, kDim, kFewWarps, kFew>()));
  print("attention_grad_query", name, kDim,
        std::max(attention_grad_query_shared_bytes<Arithmetic, kDim, kManyWarps, kBack>(true),
                 attention_grad_query_shared_bytes<Arithmetic, kDim, kFewWarps, kBack>(true)));
  print("attention_grad_key", name, kDim,
        std::max(attention_grad_key_shared_bytes<Arithmetic, kDim, kManyWarps, kBack>(),
                 attention_grad_key_shared_bytes<Arithmetic, kDim, kFewWarps, kBack>()));
}

}  // namespace
}  // namespace mfgan::gpu

int main() {
  using namespace mfgan::gpu;
  for_each_instantiation([](auto arithmetic, auto dim, const char* name) {
    print_launches<decltype(arithmetic), decltype(dim)::value>(name);
  });
}
