// A thread's own memory for the arrays of a kernel.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

namespace mfgan::cpu {

// Memory that grows and stays: fresh pages cost more than the work on them. Who needs some declares
// one of these thread_local; two that are in use at a time must be two.
class Scratch {
 public:
  // At least `num_bytes`, aligned to a cache line. The next call may move it.
  void* at_least(int64_t num_bytes);

 private:
  struct Free {
    void operator()(void* block) const { std::free(block); }
  };
  std::unique_ptr<void, Free> block_;
  int64_t size_ = 0;
};

// One that is shared by all who use it for no longer than their own call.
void* scratch(int64_t num_bytes);

}  // namespace mfgan::cpu
