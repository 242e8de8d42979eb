#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

#include "cpu/factor_score.h"
#include "cpu/isa.h"
#include "rng.h"

namespace mfgan::cpu {
namespace {

struct Free {
  void operator()(void* block) const { std::free(block); }
};

// A thread's own memory, kept from call to call: fresh pages cost more than the work on them.
void* scratch(int64_t num_bytes) {
  thread_local std::unique_ptr<void, Free> block;
  thread_local int64_t size = 0;
  if (num_bytes > size) {
    block.reset();
    size = 0;
    block.reset(std::aligned_alloc(64, num_bytes));
    if (!block) throw std::bad_alloc();
    size = num_bytes;
  }
  return block.get();
}

}  // namespace
}  // namespace mfgan::cpu

#define MFGAN_KERNEL_FILE "cpu/factor_score_chunk.inl"
#include "cpu/each_isa.h"

namespace mfgan::cpu {

template <>
ScoreKernels<float> score_kernels<float>() {
  return MFGAN_FOR_THIS_MACHINE(kernels<float>)();
}

template <>
ScoreKernels<double> score_kernels<double>() {
  return MFGAN_FOR_THIS_MACHINE(kernels<double>)();
}

}  // namespace mfgan::cpu
