#include <cmath>
#include <cstdint>
#include <utility>

#include "cpu/factor_score.h"
#include "cpu/isa.h"
#include "cpu/scratch.h"
#include "rng.h"

namespace mfgan::cpu {
namespace {

// Beside the sums of its chunk, which lie in the memory of `scratch`.
void* work_memory(int64_t num_bytes) {
  thread_local Scratch memory;
  return memory.at_least(num_bytes);
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
