// The emulator's one translation unit of its own, and the op that sets how it runs.
#define SIMT_IMPLEMENTATION
#include "simt/emulator/emulator.h"

#include <torch/csrc/stable/library.h>

namespace {

// A dispatcher op must take a tensor or return something; this one returns its seed.
int64_t configure(int64_t order, int64_t copies, int64_t seed, int64_t os_threads) {
  simt::Settings& settings = simt::settings();
  settings.order = static_cast<simt::Order>(order);
  settings.copies = static_cast<simt::CopyTime>(copies);
  settings.seed = static_cast<uint64_t>(seed);
  settings.os_threads = static_cast<int>(os_threads);
  simt::num_multiplications() = 0;
  return seed;
}

// Since the last `configure`.
int64_t multiplications() { return simt::num_multiplications(); }

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(mfgan_emu, m) {
  m.def("configure(int order, int copies, int seed, int os_threads) -> int");
  m.def("multiplications() -> int");
}
STABLE_TORCH_LIBRARY_IMPL(mfgan_emu, CompositeExplicitAutograd, m) {
  m.impl("configure", TORCH_BOX(&configure));
  m.impl("multiplications", TORCH_BOX(&multiplications));
}
