// Warp-wide matrix products and loads, with the fragment layouts of the PTX manual.
#pragma once

#include <atomic>

#include "simt/emulator/collectives.h"

namespace simt {

constexpr uint32_t kAllLanes = 0xffffffffu;

// How many multiplications the tensor cores were given: what a plan wastes shows against those that
// its result needs.
inline std::atomic<int64_t>& num_multiplications() {
  static std::atomic<int64_t> count{0};
  return count;
}

template <typename T>
inline float low_of(uint32_t pair) {
  return to_float(T{static_cast<uint16_t>(pair)});
}
template <typename T>
inline float high_of(uint32_t pair) {
  return to_float(T{static_cast<uint16_t>(pair >> 16)});
}

// C (16 x 8) of a warp: lane l holds columns 2 (l % 4) and the next of rows l / 4 and l / 4 + 8.
template <int kDepth>
inline void multiply(Slot* slots, const float (&a)[16][kDepth], const float (&b)[kDepth][8]) {
  num_multiplications() += 16 * 8 * kDepth;
  for (int lane = 0; lane < 32; ++lane) {
    const int row = lane / 4, column = lane % 4 * 2;
    float c[4];
    std::memcpy(c, slots[lane].in + 6, sizeof(c));
    for (int k = 0; k < kDepth; ++k) {
      c[0] += a[row][k] * b[k][column];
      c[1] += a[row][k] * b[k][column + 1];
      c[2] += a[row + 8][k] * b[k][column];
      c[3] += a[row + 8][k] * b[k][column + 1];
    }
    std::memcpy(slots[lane].out, c, sizeof(c));
  }
}

template <typename Combine>
inline void matrix_product(float (&d)[4], const uint32_t (&a)[4], const uint32_t* b,
                           const char* name, Combine combine) {
  Unobserved guard;
  uint32_t input[10];
  std::memcpy(input, a, 16);
  std::memcpy(input + 4, b, 8);
  std::memcpy(input + 6, d, 16);
  const unsigned lane = current_fiber->linear % kWarpSize;
  const Slot* slots = collective(kAllLanes, name, input, 10, combine);
  std::memcpy(d, slots[lane].out, 16);
}

template <typename T>
inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t* b) {
  matrix_product(d, a, b, "mma.m16n8k16", [](Slot* slots) {
    float left[16][16], right[16][8];
    for (int lane = 0; lane < 32; ++lane) {
      const uint32_t* in = slots[lane].in;
      const int group = lane / 4, pair = lane % 4 * 2;
      for (int part = 0; part < 4; ++part) {
        const int row = group + part % 2 * 8, column = pair + part / 2 * 8;
        left[row][column] = low_of<T>(in[part]);
        left[row][column + 1] = high_of<T>(in[part]);
      }
      for (int part = 0; part < 2; ++part) {
        right[pair + part * 8][group] = low_of<T>(in[4 + part]);
        right[pair + part * 8 + 1][group] = high_of<T>(in[4 + part]);
      }
    }
    multiply(slots, left, right);
  });
}

inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t* b) {
  matrix_product(d, a, b, "mma.m16n8k8.tf32", [](Slot* slots) {
    float left[16][8], right[8][8];
    for (int lane = 0; lane < 32; ++lane) {
      const uint32_t* in = slots[lane].in;
      const int group = lane / 4, place = lane % 4;
      // The hardware reads the upper 19 bits alone.
      const auto value = [&](int word) { return bit_cast<float>(in[word] & ~0x1fffu); };
      for (int part = 0; part < 4; ++part) {
        left[group + part % 2 * 8][place + part / 2 * 4] = value(part);
      }
      for (int part = 0; part < 2; ++part) right[place + part * 4][group] = value(4 + part);
    }
    multiply(slots, left, right);
  });
}

template <bool kTransposed>
inline void load_matrices(uint32_t (&r)[4], const void* row, const char* name) {
  Unobserved guard;
  if (reinterpret_cast<uintptr_t>(row) & 15) fail("ldmatrix: a row must be aligned to 16 bytes");
  uint32_t input[2];
  std::memcpy(input, &row, sizeof(row));
  const Slot* slots = collective(kAllLanes, name, input, 2, kNothing);
  const int lane = static_cast<int>(current_fiber->linear % kWarpSize);
  const int group = lane / 4, pair = lane % 4 * 2;
  for (int tile = 0; tile < 4; ++tile) {
    uint16_t values[2];
    for (int i = 0; i < 2; ++i) {
      const int from_row = kTransposed ? pair + i : group, column = kTransposed ? group : pair + i;
      const uint16_t* start;
      std::memcpy(&start, slots[tile * 8 + from_row].in, sizeof(start));
      Observed access;
      values[i] = start[column];
    }
    r[tile] = values[0] | static_cast<uint32_t>(values[1]) << 16;
  }
}

inline void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  load_matrices<false>(r, row, "ldmatrix");
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  load_matrices<true>(r, row, "ldmatrix.trans");
}

}  // namespace simt
