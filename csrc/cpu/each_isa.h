// Compiles the file MFGAN_KERNEL_FILE once for every instruction set, each time in a namespace of
// its own: v4 (AVX-512), v3 (AVX2 and FMA) and base (what every processor of the kind has). Such a
// file includes nothing but other files of its kind; what it needs from the standard library is
// included before, so that no inline function of it is compiled for a processor that may be absent.
//
//   #define MFGAN_KERNEL_FILE "cpu/some_kernel.inl"
//   #include "cpu/each_isa.h"
//
// Inside, MFGAN_ISA is the namespace, MFGAN_VECTOR_BYTES the width and MFGAN_NUM_REGISTERS the
// number of vector registers.

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)

#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4,prefer-vector-width=512")
#define MFGAN_ISA v4
#define MFGAN_VECTOR_BYTES 64
#define MFGAN_NUM_REGISTERS 32
#include MFGAN_KERNEL_FILE
#undef MFGAN_ISA
#undef MFGAN_VECTOR_BYTES
#undef MFGAN_NUM_REGISTERS
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("arch=x86-64-v3")
#define MFGAN_ISA v3
#define MFGAN_VECTOR_BYTES 32
#define MFGAN_NUM_REGISTERS 16
#include MFGAN_KERNEL_FILE
#undef MFGAN_ISA
#undef MFGAN_VECTOR_BYTES
#undef MFGAN_NUM_REGISTERS
#pragma GCC pop_options

#endif

#define MFGAN_ISA base
#define MFGAN_VECTOR_BYTES 16
#if defined(__aarch64__)
#define MFGAN_NUM_REGISTERS 32
#else
#define MFGAN_NUM_REGISTERS 16
#endif
#include MFGAN_KERNEL_FILE
#undef MFGAN_ISA
#undef MFGAN_VECTOR_BYTES
#undef MFGAN_NUM_REGISTERS

#undef MFGAN_KERNEL_FILE
