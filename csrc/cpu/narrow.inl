// Half types in memory, float in registers. Follows simd.inl.

namespace mfgan::cpu::MFGAN_ISA {

typedef uint16_t Shorts __attribute__((vector_size(MFGAN_VECTOR_BYTES / 2)));

template <typename T>
inline Vec<Wide<T>> load_wide(const T* from) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    Shorts shorts;
    __builtin_memcpy(&shorts, from, sizeof(shorts));
    const Words<float> words = __builtin_convertvector(shorts, Words<float>) << 16;
    Vec<float> x;
    __builtin_memcpy(&x, &words, sizeof(x));
    return x;
  } else if constexpr (sizeof(T) == sizeof(Wide<T>)) {
    return load(from);
  } else {
    Wide<T> wide[kLanes<Wide<T>>];
    for (int i = 0; i < kLanes<Wide<T>>; ++i) wide[i] = cpu::load(from[i]);
    return load(wide);
  }
}

// A bfloat16 in the upper half of a float's bits: to nearest, ties to even. A NaN whose lower half
// is 0 stays as it is, others may not.
inline Words<float> rounded_to_bfloat16(Words<float> bits) {
  return bits + 0x7fffu + ((bits >> 16) & 1);
}

// Rounds as element.h does.
template <typename T>
inline void store_narrow(T* to, Vec<Wide<T>> x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    Words<float> bits;
    __builtin_memcpy(&bits, &x, sizeof(bits));
    const Words<float> rounded = rounded_to_bfloat16(bits) >> 16;
    const Words<float> quiet_nan = (bits >> 16) | 0x40u;
    const Words<float> words = (bits & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded;
    const Shorts shorts = __builtin_convertvector(words, Shorts);
    __builtin_memcpy(to, &shorts, sizeof(shorts));
  } else if constexpr (sizeof(T) == sizeof(Wide<T>)) {
    store(to, x);
  } else {
    Wide<T> wide[kLanes<Wide<T>>];
    store(wide, x);
    for (int i = 0; i < kLanes<Wide<T>>; ++i) cpu::store(to + i, wide[i]);
  }
}

// Exactly n numbers; the last vector overlaps the one before.
template <typename T>
inline void widen(const T* from, int64_t n, Wide<T>* to) {
  constexpr int lanes = kLanes<Wide<T>>;
  if (n < lanes) {
    for (int64_t i = 0; i < n; ++i) to[i] = cpu::load(from[i]);
    return;
  }
  for (int64_t i = 0; i + lanes <= n; i += lanes) store(to + i, load_wide(from + i));
  store(to + n - lanes, load_wide(from + n - lanes));
}

template <typename T>
inline void narrow(const Wide<T>* from, int64_t n, T* to) {
  constexpr int lanes = kLanes<Wide<T>>;
  if (n < lanes) {
    for (int64_t i = 0; i < n; ++i) cpu::store(to + i, from[i]);
    return;
  }
  for (int64_t i = 0; i + lanes <= n; i += lanes) store_narrow(to + i, load(from + i));
  store_narrow(to + n - lanes, load(from + n - lanes));
}

}  // namespace mfgan::cpu::MFGAN_ISA
