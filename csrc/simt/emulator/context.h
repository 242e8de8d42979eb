// A stack of its own for every thread of a block, and the switch from one to another.
#pragma once

#include <cstddef>
#include <cstdint>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace simt {

#if defined(__x86_64__)

extern "C" void simt_switch_stack(void** save, void* to);

// Only what the ABI says a call keeps goes onto the stack: no system call, a few nanoseconds.
#ifdef SIMT_IMPLEMENTATION
asm(R"(
.text
.globl simt_switch_stack
.type simt_switch_stack, @function
simt_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch_stack, .-simt_switch_stack
)");
#endif

struct Context {
  void* stack_pointer = nullptr;

  void start(char* stack, size_t bytes, void (*entry)()) {
    constexpr int kSavedRegisters = 6;
    void** top = reinterpret_cast<void**>(stack + bytes);
    *--top = nullptr;  // keeps the entry's frame aligned as a call would
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
    stack_pointer = top;
  }
  static void switch_to(Context& from, Context& to) {
    simt_switch_stack(&from.stack_pointer, to.stack_pointer);
  }
};

#else

struct Context {
  ucontext_t state{};

  void start(char* stack, size_t bytes, void (*entry)()) {
    getcontext(&state);
    state.uc_stack.ss_sp = stack;
    state.uc_stack.ss_size = bytes;
    state.uc_link = nullptr;
    makecontext(&state, entry, 0);
  }
  static void switch_to(Context& from, Context& to) { swapcontext(&from.state, &to.state); }
};

#endif

}  // namespace simt
