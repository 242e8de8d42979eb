#include "cpu/scratch.h"

#include <new>

namespace mfgan::cpu {

void* Scratch::at_least(int64_t num_bytes) {
  if (num_bytes > size_) {
    constexpr int64_t kLine = 64;
    block_.reset();
    size_ = 0;
    // The size must be a multiple of the alignment.
    block_.reset(std::aligned_alloc(kLine, (num_bytes + kLine - 1) / kLine * kLine));
    if (!block_) throw std::bad_alloc();
    size_ = num_bytes;
  }
  return block_.get();
}

void* scratch(int64_t num_bytes) {
  thread_local Scratch memory;
  return memory.at_least(num_bytes);
}

}  // namespace mfgan::cpu
