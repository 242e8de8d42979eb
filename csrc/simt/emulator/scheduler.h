// A block of threads as fibers on one OS thread: who runs next, and the block's barrier.
#pragma once

#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "simt/emulator/context.h"
#include "simt/emulator/sanitizers.h"
#include "simt/emulator/types.h"

namespace simt {

constexpr unsigned kWarpSize = 32;
constexpr size_t kStackBytes = 128 << 10;

// The order in which threads that could run do run. `skewed` lets one warp run as far ahead as it
// can, another one after each barrier: what a missing barrier needs in order to show.
enum class Order { forward, reverse, random, skewed };
// When an asynchronous copy takes place: at the wait, at its issue, or either by a coin.
enum class CopyTime { lazy, eager, random };

struct Settings {
  Order order = Order::forward;
  CopyTime copies = CopyTime::lazy;
  uint64_t seed = 0;
  int os_threads = 1;
};
inline Settings& settings() {
  static Settings instance;
  return instance;
}

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
  bool valid;
};

enum class State : uint8_t { ready, at_barrier, at_collective, done };

struct Fiber {
  Context context;
  char* stack = nullptr;
  dim3 thread;
  unsigned linear = 0;
  State state = State::ready;
  const char* waits_at = "";
  std::vector<Copy> open_copies;
  std::vector<std::vector<Copy>> copy_groups;
  void* tsan = nullptr;
};

struct Slot {
  alignas(16) uint32_t in[12];
  alignas(16) uint32_t out[4];
};

// Two sets of slots: a lane may enter the next collective while others still read this one's.
struct Warp {
  Slot slots[2][kWarpSize];
  uint32_t arrived = 0, expected = 0, live = 0;
  uint64_t generation = 0;
  const char* operation = "";
  char sync[2] = {};
};

struct Block {
  dim3 grid, shape, index;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  unsigned num_threads = 0, num_live = 0, num_at_barrier = 0;
  uint64_t barrier_generation = 0;
  Context main;
  std::vector<unsigned> ready;
  std::vector<uint64_t> priorities;
  uint64_t priorities_of = 0;
  const std::function<void()>* body = nullptr;
  std::vector<unsigned char> shared;
  unsigned char* shared_start = nullptr;
  std::mt19937_64 random;
  std::string error;
  char barrier_sync[2] = {}, start_sync = 0, end_sync = 0;
  void* main_tsan = nullptr;
  const void* main_stack = nullptr;
  size_t main_stack_bytes = 0;
};

inline thread_local Block* current_block = nullptr;
inline thread_local Fiber* current_fiber = nullptr;

[[noreturn]] inline void fail(const std::string& message) {
  throw std::runtime_error("simt: " + message);
}

// Leaves the running fiber for the scheduler; `last` where it will never come back.
inline void yield([[maybe_unused]] bool last = false) {
  Block& block = *current_block;
  Fiber& fiber = *current_fiber;
#ifdef SIMT_TSAN
  __tsan_switch_to_fiber(block.main_tsan, 1);
#endif
#ifdef SIMT_ASAN
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(last ? nullptr : &fake, block.main_stack, block.main_stack_bytes);
#endif
  Context::switch_to(fiber.context, block.main);
#ifdef SIMT_ASAN
  __sanitizer_finish_switch_fiber(fake, &block.main_stack, &block.main_stack_bytes);
#endif
}

inline void resume(Fiber& fiber) {
  current_fiber = &fiber;
#ifdef SIMT_TSAN
  __tsan_switch_to_fiber(fiber.tsan, 1);
#endif
#ifdef SIMT_ASAN
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, fiber.stack, kStackBytes);
#endif
  Context::switch_to(current_block->main, fiber.context);
#ifdef SIMT_ASAN
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

inline void release_barrier(Block& block) {
  block.num_at_barrier = 0;
  ++block.barrier_generation;
  for (Fiber& fiber : block.fibers) {
    if (fiber.state != State::at_barrier) continue;
    fiber.state = State::ready;
    block.ready.push_back(fiber.linear);
  }
}

// Every live thread of the block meets here; memory written before is seen after.
inline void block_barrier() {
  Unobserved guard;
  Block& block = *current_block;
  Fiber& fiber = *current_fiber;
  char* sync = &block.barrier_sync[block.barrier_generation & 1];
  release(sync);
  fiber.waits_at = "__syncthreads";
  fiber.state = State::at_barrier;
  if (++block.num_at_barrier == block.num_live) release_barrier(block);
  yield();
  acquire(sync);
}

inline void fiber_main() {
#ifdef SIMT_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &current_block->main_stack,
                                  &current_block->main_stack_bytes);
#endif
  {
    Unobserved guard;
    Block& block = *current_block;
    Fiber& fiber = *current_fiber;
    try {
      (*block.body)();
      if (!fiber.open_copies.empty() || !fiber.copy_groups.empty()) {
        fail("a thread ends with an asynchronous copy that nobody waited for");
      }
    } catch (const std::exception& error) {
      if (block.error.empty()) block.error = error.what();
    }
    fiber.state = State::done;
    block.warps[fiber.linear / kWarpSize].live &= ~(1u << (fiber.linear % kWarpSize));
    if (--block.num_live > 0 && block.num_at_barrier == block.num_live) release_barrier(block);
  }
  yield(/*last=*/true);
}

inline std::string where_threads_wait(const Block& block) {
  std::string text;
  int named = 0;
  for (const Fiber& fiber : block.fibers) {
    if (fiber.state == State::done || ++named > 6) continue;
    text += " thread " + std::to_string(fiber.linear) + " at " + fiber.waits_at;
  }
  return text;
}

// Takes the fibers that run in this turn out of `block.ready`, in the order of the settings.
inline std::vector<unsigned> next_turn(Block& block) {
  std::vector<unsigned> turn;
  turn.swap(block.ready);
  const Order order = settings().order;
  if (order == Order::reverse) std::reverse(turn.begin(), turn.end());
  if (order == Order::random) std::shuffle(turn.begin(), turn.end(), block.random);
  if (order != Order::skewed) return turn;
  if (block.priorities_of != block.barrier_generation + 1) {
    block.priorities_of = block.barrier_generation + 1;
    block.priorities.resize(block.warps.size());
    for (uint64_t& priority : block.priorities) priority = block.random();
  }
  unsigned first = turn[0] / kWarpSize;
  for (unsigned i : turn) {
    if (block.priorities[i / kWarpSize] < block.priorities[first]) first = i / kWarpSize;
  }
  std::vector<unsigned> chosen;
  for (unsigned i : turn) (i / kWarpSize == first ? chosen : block.ready).push_back(i);
  return chosen;
}

inline void run_to_the_end(Block& block) {
  while (block.num_live > 0 && block.error.empty()) {
    if (block.ready.empty()) {
      block.error = "simt: deadlock:" + where_threads_wait(block);
      break;
    }
    for (unsigned i : next_turn(block)) {
      if (block.error.empty()) resume(block.fibers[i]);
    }
  }
  if (block.error.empty()) return;
  const dim3& at = block.index;
  throw std::runtime_error(block.error + " [block " + std::to_string(at.x) + "," +
                           std::to_string(at.y) + "," + std::to_string(at.z) + "]");
}

}  // namespace simt

#define threadIdx (simt::current_fiber->thread)
#define blockIdx (simt::current_block->index)
#define blockDim (simt::current_block->shape)
#define gridDim (simt::current_block->grid)

inline void __syncthreads() { simt::block_barrier(); }
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
