// Counter-based random bits: a pure function of (seed, offset, site, row, column). The CPU and the
// CUDA kernels share it, so a dropout mask is the same on every device and every thread count.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define MFGAN_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define MFGAN_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace mfgan {

// Finaliser of SplitMix64 (Steele, Lea, Flood 2014).
MFGAN_HOST_DEVICE uint64_t mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// A 32-bit bijection with low avalanche bias (Wellons 2018): two multiplications an element.
MFGAN_HOST_DEVICE uint32_t mix32(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

// The two words of a row. Rows whose column sequences overlap by chance still differ in `flip`.
struct RowKey {
  uint32_t start;
  uint32_t flip;
};

// `site` tells the places apart that draw in one step (layer 1's attention, layer 1's output, ...).
MFGAN_HOST_DEVICE uint64_t place_key(int64_t seed, int64_t offset, int64_t site) {
  const uint64_t step = mix64(static_cast<uint64_t>(seed) ^ mix64(static_cast<uint64_t>(offset)));
  return mix64(step ^ mix64(static_cast<uint64_t>(site)));
}

MFGAN_HOST_DEVICE RowKey row_key(uint64_t place, int64_t row) {
  const uint64_t key = mix64(place ^ static_cast<uint64_t>(row));
  return {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)};
}

MFGAN_HOST_DEVICE RowKey row_key(int64_t seed, int64_t offset, int64_t site, int64_t row) {
  return row_key(place_key(seed, offset, site), row);
}

MFGAN_HOST_DEVICE uint32_t random_bits(RowKey key, uint32_t column) {
  return mix32(key.start + column * 0x9e3779b9u) ^ key.flip;
}

// Bits below the threshold drop the element: P(drop) = threshold / 2^32.
MFGAN_HOST_DEVICE uint32_t drop_threshold(double dropout_p) {
  return static_cast<uint32_t>(dropout_p * 4294967296.0);
}

MFGAN_HOST_DEVICE bool keeps(RowKey key, uint32_t column, uint32_t threshold) {
  return random_bits(key, column) >= threshold;
}

}  // namespace mfgan
