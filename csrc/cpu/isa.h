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
    // By features: GCC knows the levels' names from version 12 on.
    __builtin_cpu_init();
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
    const bool v3_wanted = wanted && std::strcmp(wanted, "v3") == 0;
    if (!v3_wanted && v4) return Isa::kV4;
    if (v3) return Isa::kV3;
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
