// Where in a batch of packed sessions a token is.
#pragma once

#include <cstdint>

#include "simt/simt.h"

namespace mfgan::gpu {

// The index of the session that holds a token; there is one.
__device__ __forceinline__ int session_of(const int32_t* cu_seqlens, int num_sessions,
                                          int64_t token) {
  int low = 0, high = num_sessions;  // cu_seqlens[low] <= token < cu_seqlens[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (cu_seqlens[middle] <= token) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

}  // namespace mfgan::gpu
