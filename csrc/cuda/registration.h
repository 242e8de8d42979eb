// The same op file serves two machines: nvcc registers it for CUDA tensors under mfgan::, a host
// compiler for CPU tensors under mfgan_emu::, where the kernels run on the emulator.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "simt/simt.h"

#if defined(__CUDACC__)

#define MFGAN_DEVICE_OPS(m) STABLE_TORCH_LIBRARY_IMPL(mfgan, CUDA, m)
#define MFGAN_CHECK_LAUNCH() STD_CUDA_KERNEL_LAUNCH_CHECK()

namespace mfgan::gpu {
using DeviceGuard = torch::stable::accelerator::DeviceGuard;
inline cudaStream_t stream_of(const torch::stable::Tensor& x) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}
}  // namespace mfgan::gpu

#else

#define MFGAN_DEVICE_OPS(m) STABLE_TORCH_LIBRARY_IMPL(mfgan_emu, CPU, m)
#define MFGAN_CHECK_LAUNCH() static_cast<void>(0)

namespace mfgan::gpu {
struct DeviceGuard {
  explicit DeviceGuard(int) {}
};
inline cudaStream_t stream_of(const torch::stable::Tensor&) { return nullptr; }
}  // namespace mfgan::gpu

#endif
