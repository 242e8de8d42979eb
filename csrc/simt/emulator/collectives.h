// What the lanes of a warp do together: barriers, shuffles and votes.
#pragma once

#include "simt/emulator/scheduler.h"

namespace simt {

inline void release_warp(Block& block, unsigned index) {
  Warp& warp = block.warps[index];
  warp.arrived = 0;
  ++warp.generation;
  const unsigned end = std::min((index + 1) * kWarpSize, block.num_threads);
  for (unsigned i = index * kWarpSize; i < end; ++i) {
    if (block.fibers[i].state != State::at_collective) continue;
    block.fibers[i].state = State::ready;
    block.ready.push_back(i);
  }
}

// Every lane of `mask` leaves `words` of input; the last one to come runs `combine` over the slots.
// Returns the set of slots, in which each lane finds what it may read.
template <typename Combine>
inline Slot* collective(uint32_t mask, const char* name, const uint32_t* input, size_t words,
                        Combine combine, bool orders_memory = false) {
  Unobserved guard;
  Block& block = *current_block;
  Fiber& fiber = *current_fiber;
  const unsigned lane = fiber.linear % kWarpSize, index = fiber.linear / kWarpSize;
  Warp& warp = block.warps[index];
  const int parity = static_cast<int>(warp.generation & 1);
  const unsigned rest = block.num_threads - index * kWarpSize;
  const uint32_t present = rest >= kWarpSize ? 0xffffffffu : (1u << rest) - 1;
  const uint32_t expected = mask & present;
  if (!(mask >> lane & 1)) fail(std::string(name) + ": the calling lane is not in its mask");
  if (warp.arrived == 0) {
    warp.operation = name;
    warp.expected = expected;
  } else if (warp.operation != name || warp.expected != expected) {
    fail(std::string(name) + ": lanes of one warp disagree, another is at " + warp.operation);
  }
  if (expected & ~warp.live) fail(std::string(name) + ": the mask names a lane that has ended");
  std::memcpy(warp.slots[parity][lane].in, input, words * sizeof(uint32_t));
  char* sync = &warp.sync[parity];
  if (orders_memory) release(sync);
  warp.arrived |= 1u << lane;
  fiber.waits_at = name;
  if (warp.arrived == expected) {
    combine(warp.slots[parity]);
    release_warp(block, index);
  } else {
    fiber.state = State::at_collective;
    yield();
  }
  if (orders_memory) acquire(sync);
  return warp.slots[parity];
}

constexpr auto kNothing = [](Slot*) {};

template <typename T, typename Source>
inline T shuffle(uint32_t mask, T value, const char* name, Source source) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffle: values of 4 or 8 bytes");
  uint32_t words[2] = {};
  std::memcpy(words, &value, sizeof(T));
  const int lane = static_cast<int>(current_fiber->linear % kWarpSize);
  const Slot* slots = collective(mask, name, words, sizeof(T) / 4, kNothing);
  Unobserved guard;
  const int from = source(lane);
  if (!(mask >> from & 1)) fail(std::string(name) + ": reads a lane outside the mask");
  T result;
  std::memcpy(&result, slots[from].in, sizeof(T));
  return result;
}

}  // namespace simt

// A shuffle orders no memory; __syncwarp does.
inline void __syncwarp(uint32_t mask = 0xffffffffu) {
  const uint32_t none = 0;
  simt::collective(mask, "__syncwarp", &none, 0, simt::kNothing, /*orders_memory=*/true);
}
template <typename T>
inline T __shfl_xor_sync(uint32_t mask, T value, int bits) {
  return simt::shuffle(mask, value, "__shfl_xor_sync", [=](int lane) { return lane ^ bits; });
}
template <typename T>
inline T __shfl_sync(uint32_t mask, T value, int from, int width = 32) {
  return simt::shuffle(mask, value, "__shfl_sync",
                       [=](int lane) { return (lane & ~(width - 1)) | (from & (width - 1)); });
}
template <typename T>
inline T __shfl_down_sync(uint32_t mask, T value, int distance, int width = 32) {
  return simt::shuffle(mask, value, "__shfl_down_sync", [=](int lane) {
    const int from = lane + distance;
    return (lane & ~(width - 1)) == (from & ~(width - 1)) ? from : lane;
  });
}
template <typename T>
inline T __shfl_up_sync(uint32_t mask, T value, int distance, int width = 32) {
  return simt::shuffle(mask, value, "__shfl_up_sync", [=](int lane) {
    const int from = lane - distance;
    return from >= (lane & ~(width - 1)) ? from : lane;
  });
}
inline uint32_t __ballot_sync(uint32_t mask, bool predicate) {
  const uint32_t mine = predicate;
  const simt::Slot* slots = simt::collective(mask, "__ballot_sync", &mine, 1, simt::kNothing);
  simt::Unobserved guard;
  uint32_t votes = 0;
  for (unsigned lane = 0; lane < simt::kWarpSize; ++lane) {
    if (mask >> lane & 1 && slots[lane].in[0]) votes |= 1u << lane;
  }
  return votes;
}
inline bool __all_sync(uint32_t mask, bool predicate) { return !__ballot_sync(mask, !predicate); }
inline bool __any_sync(uint32_t mask, bool predicate) { return __ballot_sync(mask, predicate); }

inline float atomicAdd(float* at, float value) {
  auto* word = reinterpret_cast<uint32_t*>(at);
  uint32_t old = __atomic_load_n(word, __ATOMIC_RELAXED), sum;
  do {
    sum = simt::bit_cast<uint32_t>(simt::bit_cast<float>(old) + value);
  } while (
      !__atomic_compare_exchange_n(word, &old, sum, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return simt::bit_cast<float>(old);
}
inline int atomicAdd(int* at, int value) { return __atomic_fetch_add(at, value, __ATOMIC_RELAXED); }
