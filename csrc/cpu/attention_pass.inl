// Both passes of attention, as each_isa.h compiles them: each file follows the one before.
// clang-format off
#include "cpu/simd.inl"
#include "cpu/narrow.inl"
#include "cpu/matmul.inl"
#include "cpu/attention_block.inl"
#include "cpu/attention_arrays.inl"
#include "cpu/attention_products.inl"
#include "cpu/attention_forward.inl"
#include "cpu/attention_backward.inl"
// clang-format on
