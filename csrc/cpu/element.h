// Element types of the CPU kernels without torch headers: half types are loaded and stored as 16
// bits and computed with as float.
#pragma once

#include <cstdint>
#include <cstring>

namespace mfgan::cpu {

template <typename To, typename From>
inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

// What sums over T are kept in.
template <typename T>
struct WideOf {
  using type = float;
};
template <>
struct WideOf<double> {
  using type = double;
};
template <typename T>
using Wide = typename WideOf<T>::type;

inline float load(float x) { return x; }
inline double load(double x) { return x; }
inline float load(BFloat16 x) { return bits_as<float>(static_cast<uint32_t>(x.bits) << 16); }
inline float load(Half x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
  // Moving the exponent bias by a multiplication makes subnormal numbers right as well.
  const uint32_t finite = bits_as<uint32_t>(bits_as<float>(magnitude) * 0x1p112f);
  const uint32_t special = magnitude | 0x7f800000u;
  return bits_as<float>(sign | (magnitude >= 0x0f800000u ? special : finite));
}

// Round to nearest, ties to even.
inline void store(float* to, float x) { *to = x; }
inline void store(double* to, double x) { *to = x; }
inline void store(BFloat16* to, float x) {
  const uint32_t bits = bits_as<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16;
  const uint32_t quiet_nan = (bits >> 16) | 0x40u;
  to->bits = static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded);
}
inline void store(Half* to, float x) {
  const uint32_t bits = bits_as<uint32_t>(x);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  // Normal numbers: rebias, then round away the 13 lowest bits.
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1)) >> 13;
  // Subnormal ones: adding 0.5 lines the mantissa up, and the addition rounds it.
  const uint32_t tiny = bits_as<uint32_t>(bits_as<float>(magnitude) + 0.5f) - 0x3f000000u;
  uint32_t half = magnitude < 0x38800000u ? tiny : normal;
  half = magnitude >= 0x477ff000u ? 0x7c00u : half;
  half = magnitude > 0x7f800000u ? 0x7e00u : half;
  to->bits = static_cast<uint16_t>(sign | half);
}

}  // namespace mfgan::cpu
