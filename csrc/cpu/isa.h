// Which of the instruction sets that a kernel file was compiled for (each_isa.h) this machine runs.
#pragma once

#include <cstdlib>
#include <cstring>

namespace mfgan::cpu {

enum class Isa { kBase, kV3, kV4 };

// The best one, or a lesser one asked for by MFGAN_ISA=v3 or MFGAN_ISA=base, read once.
inline Isa isa() {
  static const Isa chosen = [] {
    const char* wanted = std::getenv("MFGAN_ISA");
    if (wanted && std::strcmp(wanted, "base") == 0) return Isa::kBase;
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
    __builtin_cpu_init();
    const bool v3_wanted = wanted && std::strcmp(wanted, "v3") == 0;
    if (!v3_wanted && __builtin_cpu_supports("x86-64-v4")) return Isa::kV4;
    if (__builtin_cpu_supports("x86-64-v3")) return Isa::kV3;
#endif
    return Isa::kBase;
  }();
  return chosen;
}

}  // namespace mfgan::cpu

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define MFGAN_FOR_THIS_MACHINE(function)                          \
  (::mfgan::cpu::isa() == ::mfgan::cpu::Isa::kV4   ? v4::function \
   : ::mfgan::cpu::isa() == ::mfgan::cpu::Isa::kV3 ? v3::function \
                                                   : base::function)
#else
#define MFGAN_FOR_THIS_MACHINE(function) (base::function)
#endif
