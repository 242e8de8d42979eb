// Both passes of attention, as each_isa.h compiles them.
#include "cpu/simd.inl"
#include "cpu/matmul.inl"
#include "cpu/attention_block.inl"
#include "cpu/attention_forward.inl"
#include "cpu/attention_backward.inl"
