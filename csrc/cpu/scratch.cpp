#include "cpu/scratch.h"

#include <cstdlib>
#include <memory>
#include <new>

namespace mfgan::cpu {
namespace {

struct Free {
  void operator()(void* block) const { std::free(block); }
};

}  // namespace

void* scratch(int64_t num_bytes) {
  thread_local std::unique_ptr<void, Free> block;
  thread_local int64_t size = 0;
  if (num_bytes > size) {
    block.reset();
    size = 0;
    block.reset(std::aligned_alloc(64, (num_bytes + 63) / 64 * 64));
    if (!block) throw std::bad_alloc();
    size = num_bytes;
  }
  return block.get();
}

}  // namespace mfgan::cpu
