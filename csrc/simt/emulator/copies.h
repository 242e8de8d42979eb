// Asynchronous copies from global to shared memory, as early or as late as the machine may do them.
#pragma once

#include "simt/emulator/scheduler.h"

namespace simt {

inline void carry_out(const Copy& copy) {
  Observed guard;
  if (copy.valid) {
    std::memcpy(copy.to, copy.from, copy.bytes);
  } else {
    std::memset(copy.to, 0, copy.bytes);
  }
}

template <int kBytes>
inline void cp_async(void* to, const void* from, bool valid) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "cp.async: 4, 8 or 16 bytes");
  Unobserved guard;
  const auto from_bits = valid ? reinterpret_cast<uintptr_t>(from) : 0;
  if ((reinterpret_cast<uintptr_t>(to) | from_bits) & (kBytes - 1)) {
    fail("cp.async: addresses must be aligned to " + std::to_string(kBytes) + " bytes");
  }
  const CopyTime time = settings().copies;
  if (time == CopyTime::eager || (time == CopyTime::random && current_block->random() & 1)) {
    carry_out({to, from, kBytes, valid});
  } else {
    current_fiber->open_copies.push_back({to, from, kBytes, valid});
  }
}
inline void cp_async16(void* to, const void* from, bool valid) { cp_async<16>(to, from, valid); }

inline void cp_async_commit() {
  Unobserved guard;
  current_fiber->copy_groups.push_back(std::move(current_fiber->open_copies));
  current_fiber->open_copies.clear();
}

template <int kLeft>
inline void cp_async_wait() {
  Unobserved guard;
  auto& groups = current_fiber->copy_groups;
  while (static_cast<int>(groups.size()) > kLeft) {
    for (const Copy& copy : groups.front()) carry_out(copy);
    groups.erase(groups.begin());
  }
}

}  // namespace simt
