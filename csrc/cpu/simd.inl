// Vectors of float or double as wide as the instruction set has them (each_isa.h), as GCC's vector
// types: arithmetic and comparisons are written as for numbers, `mask ? a : b` selects.

namespace mfgan::cpu::MFGAN_ISA {

template <typename T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(MFGAN_VECTOR_BYTES)));
  typedef int32_t integer;
  typedef integer index __attribute__((vector_size(MFGAN_VECTOR_BYTES)));
  typedef uint32_t words __attribute__((vector_size(MFGAN_VECTOR_BYTES)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(MFGAN_VECTOR_BYTES)));
  typedef int64_t integer;
  typedef integer index __attribute__((vector_size(MFGAN_VECTOR_BYTES)));
  typedef uint32_t words __attribute__((vector_size(MFGAN_VECTOR_BYTES / 2)));
};

template <typename T>
using Vec = typename VectorOf<T>::type;
template <typename T>
using Integer = typename VectorOf<T>::integer;  // signed, as wide as T
template <typename T>
using Index = typename VectorOf<T>::index;
template <typename T>
using Words = typename VectorOf<T>::words;  // 32-bit words, one for each T

template <typename T>
constexpr int kLanes = MFGAN_VECTOR_BYTES / sizeof(T);

template <typename T>
constexpr int64_t padded(int64_t n) {
  return (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

template <typename T>
inline Vec<T> load(const T* from) {
  Vec<T> x;
  __builtin_memcpy(&x, from, sizeof(x));
  return x;
}

template <typename T>
inline Words<T> load_words(const uint32_t* from) {
  Words<T> x;
  __builtin_memcpy(&x, from, sizeof(x));
  return x;
}

template <typename T>
inline void store(T* to, Vec<T> x) {
  __builtin_memcpy(to, &x, sizeof(x));
}

template <typename T>
inline Vec<T> all(T x) {
  return x - Vec<T>{};
}

template <typename T, int... I>
inline Index<T> iota_of(std::integer_sequence<int, I...>) {
  return Index<T>{I...};
}

// 0, 1, 2, ...
template <typename T>
inline Index<T> iota() {
  return iota_of<T>(std::make_integer_sequence<int, kLanes<T>>());
}

// The second of two where one is a NaN.
template <typename T>
inline Vec<T> larger(Vec<T> a, Vec<T> b) {
  return a > b ? a : b;
}

template <typename T, int kStep, int... I>
inline Vec<T> swap_lanes(Vec<T> x, std::integer_sequence<int, I...>) {
  return __builtin_shuffle(x, Index<T>{(I ^ kStep)...});
}

template <typename T, int kStep = kLanes<T> / 2>
inline T sum_of(Vec<T> x) {
  if constexpr (kStep == 0) {
    return x[0];
  } else {
    const auto lanes = std::make_integer_sequence<int, kLanes<T>>();
    return sum_of<T, kStep / 2>(x + swap_lanes<T, kStep>(x, lanes));
  }
}

template <typename T, int kStep = kLanes<T> / 2>
inline T largest_of(Vec<T> x) {
  if constexpr (kStep == 0) {
    return x[0];
  } else {
    const auto lanes = std::make_integer_sequence<int, kLanes<T>>();
    return largest_of<T, kStep / 2>(larger<T>(x, swap_lanes<T, kStep>(x, lanes)));
  }
}

inline float sqrt_of(float x) { return __builtin_sqrtf(x); }
inline double sqrt_of(double x) { return __builtin_sqrt(x); }

// exp(x) for x <= 0, within 2 units in the last place; 0 where it is no normal number.
inline Vec<float> exp_of(Vec<float> x) {
  using V = Vec<float>;
  const auto vanishes = x < -87.3f;                 // a NaN does not
  const V shifted = x * 1.44269504f + 12582912.0f;  // the whole part lands in the lowest bits
  const V whole = shifted - 12582912.0f;
  V r = x - whole * 0.693359375f;
  r = r + whole * 2.12194440e-4f;
  V p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + (r + 1.0f);
  Index<float> bits;
  __builtin_memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits << 23) + (127 << 23);
  V power;
  __builtin_memcpy(&power, &bits, sizeof(power));
  return vanishes ? V{} : p * power;
}

inline Vec<double> exp_of(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = __builtin_exp(x[i]);
  return x;
}

// 2 to the power of x for x <= 0, within 1 unit in the last place; nothing below 2^-126. What
// rounding of large numbers has made positive counts as 0, and a NaN stays one.
inline Vec<float> exp2_of(Vec<float> x) {
  using V = Vec<float>;
  x = larger<float>(all(-126.0f), x);
  x = x > V{} ? V{} : x;
  const V shifted = x + 12582912.0f;  // the whole part lands in the lowest bits
  const V r = x - (shifted - 12582912.0f);
  V p = all(1.535336188319500e-4f);
  p = p * r + 1.339887440266574e-3f;
  p = p * r + 9.618437357674640e-3f;
  p = p * r + 5.550332471162809e-2f;
  p = p * r + 2.402264791363012e-1f;
  p = p * r + 6.931472028550421e-1f;
  p = p * r + 1.0f;
  Index<float> whole, bits;
  __builtin_memcpy(&whole, &shifted, sizeof(whole));
  __builtin_memcpy(&bits, &p, sizeof(bits));
  bits += whole << 23;
  __builtin_memcpy(&p, &bits, sizeof(p));
  return p;
}

inline Vec<double> exp2_of(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = __builtin_exp2(x[i] > 0 ? 0 : x[i]);
  return x;
}

// Natural logarithm of positive numbers that are not subnormal, within 2 units in the last place.
inline Vec<float> log_of(Vec<float> x) {
  using V = Vec<float>;
  Index<float> bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const Index<float> whole = (bits - 0x3f3504f3) >> 23;  // x / 2^whole is near 1 on either side
  bits -= whole << 23;
  V m;
  __builtin_memcpy(&m, &bits, sizeof(m));
  const V r = m - 1.0f, power = __builtin_convertvector(whole, V);
  V p = all(7.0376836292e-2f);
  p = p * r - 1.1514610310e-1f;
  p = p * r + 1.1676998740e-1f;
  p = p * r - 1.2420140846e-1f;
  p = p * r + 1.4249322787e-1f;
  p = p * r - 1.6668057665e-1f;
  p = p * r + 2.0000714765e-1f;
  p = p * r - 2.4999993993e-1f;
  p = p * r + 3.3333331174e-1f;
  V low = p * (r * r * r) - power * 2.12194440e-4f;
  low -= 0.5f * (r * r);
  return r + low + power * 0.693359375f;
}

inline Vec<double> log_of(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = __builtin_log(x[i]);
  return x;
}

// rng.h on every lane.
template <typename T>
inline Words<T> random_words(Words<T> start, Words<T> flip, Words<T> column) {
  Words<T> x = start + column * 0x9e3779b9u;
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16) ^ flip;
}

// `scale` where the words keep an element, 0 where they drop it.
template <typename T>
inline Vec<T> keep_factor(Words<T> words, uint32_t threshold, T scale) {
  const auto kept = __builtin_convertvector(words >= threshold, Index<T>);
  return kept ? all(scale) : Vec<T>{};
}

// x where the words keep an element, 0 where they drop it.
template <typename T>
inline Vec<T> kept_or_zero(Words<T> words, uint32_t threshold, Vec<T> x) {
  const auto kept = __builtin_convertvector(words >= threshold, Index<T>);
  return kept ? x : Vec<T>{};
}

// x where the words keep an element, -x where they drop it.
template <typename T>
inline Vec<T> kept_or_negative(Words<T> words, uint32_t threshold, Vec<T> x) {
  const auto kept = __builtin_convertvector(words >= threshold, Index<T>);
  return kept ? x : -x;
}

template <typename T, int... I>
inline Vec<T> zip(Vec<T> a, Vec<T> b, int half, std::integer_sequence<int, I...>) {
  constexpr int n = kLanes<T>;
  return half == 0 ? __builtin_shuffle(a, b, Index<T>{(I / 2 + I % 2 * n)...})
                   : __builtin_shuffle(a, b, Index<T>{(n / 2 + I / 2 + I % 2 * n)...});
}

// Rows become columns: zipping row i with row i + n / 2 rotates the bits of an element's place by
// one, so log2(n) rounds exchange its row and its column.
template <typename T>
inline void transpose_square(Vec<T> (&rows)[kLanes<T>]) {
  constexpr int n = kLanes<T>;
  const auto lanes = std::make_integer_sequence<int, n>();
#pragma GCC unroll 4
  for (int round = 1; round < n; round *= 2) {
    Vec<T> next[n];
#pragma GCC unroll 16
    for (int i = 0; i < n / 2; ++i) {
      next[2 * i] = zip<T>(rows[i], rows[i + n / 2], 0, lanes);
      next[2 * i + 1] = zip<T>(rows[i], rows[i + n / 2], 1, lanes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) rows[i] = next[i];
  }
}

// to[column][row] = from[row][column]; both arrays reach up to whole vectors in either direction
// on the side they are read or written by rows of vectors: `from` has columns up to
// padded(num_columns), `to` rows of padded(num_rows). Rows of `from` past num_rows are zero.
template <typename T>
inline void transpose(const T* from, int64_t from_stride, int64_t num_rows, int64_t num_columns,
                      T* to, int64_t to_stride) {
  constexpr int n = kLanes<T>;
  for (int64_t r = 0; r < num_rows; r += n) {
    for (int64_t c = 0; c < num_columns; c += n) {
      Vec<T> square[n];
      if (r + n <= num_rows) {
#pragma GCC unroll 16
        for (int i = 0; i < n; ++i) square[i] = load(from + (r + i) * from_stride + c);
      } else {
        for (int i = 0; i < n; ++i)
          square[i] = r + i < num_rows ? load(from + (r + i) * from_stride + c) : Vec<T>{};
      }
      transpose_square<T>(square);
      if (c + n <= num_columns) {
#pragma GCC unroll 16
        for (int i = 0; i < n; ++i) store(to + (c + i) * to_stride + r, square[i]);
      } else {
        for (int i = 0; c + i < num_columns; ++i) store(to + (c + i) * to_stride + r, square[i]);
      }
    }
  }
}

// to[i] = from[i] * scale for exactly n numbers; the last vector overlaps the one before.
template <typename T>
inline void copy_scaled(const T* from, int64_t n, T scale, T* to) {
  constexpr int lanes = kLanes<T>;
  if (n < lanes) {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i] * scale;
    return;
  }
  const Vec<T> last = load(from + n - lanes) * scale;
  for (int64_t i = 0; i + lanes <= n; i += lanes) store(to + i, load(from + i) * scale);
  store(to + n - lanes, last);
}

// to[i] += from[i] for exactly n numbers.
template <typename T>
inline void add_to(const T* from, int64_t n, T* to) {
  constexpr int lanes = kLanes<T>;
  if (n < lanes) {
    for (int64_t i = 0; i < n; ++i) to[i] += from[i];
    return;
  }
  const Vec<T> last = load(to + n - lanes) + load(from + n - lanes);
  for (int64_t i = 0; i + lanes <= n; i += lanes) store(to + i, load(to + i) + load(from + i));
  store(to + n - lanes, last);
}

}  // namespace mfgan::cpu::MFGAN_ISA
