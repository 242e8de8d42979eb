// A grid: its blocks are handed to OS threads, each of which keeps one set of fibers.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>

#include "simt/emulator/scheduler.h"

namespace simt {

constexpr size_t kSharedAlignment = 128;

class Worker {
 public:
  Worker(dim3 grid, dim3 shape, size_t shared_bytes) : shared_bytes_(shared_bytes) {
    const unsigned n = shape.x * shape.y * shape.z;
    block_.grid = grid;
    block_.shape = shape;
    block_.num_threads = n;
    block_.fibers.resize(n);
    block_.warps.resize((n + kWarpSize - 1) / kWarpSize);
    stacks_ = static_cast<char*>(mmap(nullptr, kStackBytes * n, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (stacks_ == MAP_FAILED) fail("no memory for the stacks of a block");
    for (unsigned i = 0; i < n; ++i) {
      Fiber& fiber = block_.fibers[i];
      fiber.linear = i;
      fiber.thread = dim3(i % shape.x, i / shape.x % shape.y, i / (shape.x * shape.y));
      fiber.stack = stacks_ + kStackBytes * i;
#ifdef SIMT_TSAN
      fiber.tsan = __tsan_create_fiber(0);
#endif
    }
#ifdef SIMT_TSAN
    block_.main_tsan = __tsan_get_current_fiber();
#endif
    block_.shared.resize(shared_bytes + kSharedAlignment);
    const auto start = reinterpret_cast<uintptr_t>(block_.shared.data());
    block_.shared_start =
        reinterpret_cast<unsigned char*>((start + kSharedAlignment - 1) & ~(kSharedAlignment - 1));
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker() {
#ifdef SIMT_ASAN
    __asan_unpoison_memory_region(block_.shared.data(), block_.shared.size());
#endif
#ifdef SIMT_TSAN
    for (Fiber& fiber : block_.fibers) __tsan_destroy_fiber(fiber.tsan);
#endif
    munmap(stacks_, kStackBytes * block_.num_threads);
  }

  void run(dim3 index, const std::function<void()>& body) {
    Block& block = block_;
    current_block = &block;
    block.index = index;
    block.body = &body;
    block.num_live = block.num_threads;
    block.num_at_barrier = 0;
    block.barrier_generation = block.priorities_of = 0;
    block.error.clear();
    block.ready.clear();
    block.random.seed(settings().seed * 1000003 + index.x * 7919 + index.y * 104729 + index.z);
    clear_shared();
    release(&block.start_sync);
    for (unsigned w = 0; w < block.warps.size(); ++w) {
      const unsigned rest = block.num_threads - w * kWarpSize;
      block.warps[w].arrived = 0;
      block.warps[w].generation = 0;
      block.warps[w].live = rest >= kWarpSize ? 0xffffffffu : (1u << rest) - 1;
    }
    for (Fiber& fiber : block.fibers) {
      fiber.state = State::ready;
      fiber.open_copies.clear();
      fiber.copy_groups.clear();
      fiber.context.start(fiber.stack, kStackBytes, &fiber_main);
      block.ready.push_back(fiber.linear);
    }
    run_to_the_end(block);
    acquire(&block.end_sync);
  }

 private:
  // NaN in every word: a read before the first write shows in the result.
  void clear_shared() {
#ifdef SIMT_ASAN
    __asan_unpoison_memory_region(stacks_, kStackBytes * block_.num_threads);
    __asan_unpoison_memory_region(block_.shared.data(), block_.shared.size());
#endif
    std::memset(block_.shared_start, 0xff, shared_bytes_);
#ifdef SIMT_ASAN
    unsigned char* end = block_.shared_start + shared_bytes_;
    __asan_poison_memory_region(end, block_.shared.data() + block_.shared.size() - end);
#endif
  }

  Block block_;
  char* stacks_ = nullptr;
  size_t shared_bytes_;
};

inline void* dynamic_shared() { return current_block->shared_start; }

// Runs every block of the grid; the first error of any thread is thrown once all have stopped.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 shape, size_t shared_bytes, cudaStream_t,
            Arguments... arguments) {
  Unobserved guard;
  const std::function<void()> body = [=] {
    acquire(&current_block->start_sync);
    {
      Observed access;
      kernel(arguments...);
    }
    release(&current_block->end_sync);
  };
  const long total = static_cast<long>(grid.x) * grid.y * grid.z;
  std::atomic<long> next{0};
  std::string error;
  std::mutex error_lock;
  const auto work = [&] {
    // Not on this stack: what comes to lie there later would seem to race with the last fibers.
    const auto worker = std::make_unique<Worker>(grid, shape, shared_bytes);
    for (long i = next++; i < total; i = next++) {
      const long xy = i / grid.x;
      try {
        worker->run(dim3(i % grid.x, xy % grid.y, xy / grid.y), body);
      } catch (const std::exception& caught) {
        const std::lock_guard<std::mutex> hold(error_lock);
        if (error.empty()) error = caught.what();
        next = total;
      }
    }
  };
  if (settings().os_threads <= 1) {
    work();
  } else {
    std::vector<std::thread> threads;
    for (int t = 0; t < settings().os_threads; ++t) {
      threads.emplace_back([&] {
        Unobserved inner;
        work();
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  if (!error.empty()) throw std::runtime_error(error);
}

}  // namespace simt

#define SIMT_SHARED(T, name) T* name = reinterpret_cast<T*>(simt::dynamic_shared())
