// What dense_kernel.cpp compiles for each instruction set.
#include "cpu/simd.inl"

#include "cpu/matmul.inl"

#include "cpu/dense.inl"
