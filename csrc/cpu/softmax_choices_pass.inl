// The softmax of rows for one instruction set. Three passes over a row, by two vectors at a time:
// the largest logit, the exponentials and their sums, and the scale of these.

// clang-format off: each needs the ones before it
#include "cpu/simd.inl"
#include "cpu/narrow.inl"
// clang-format on

namespace mfgan::cpu::MFGAN_ISA {

inline float log_of(float x) { return __builtin_logf(x); }
inline double log_of(double x) { return __builtin_log(x); }

// Two vectors of consecutive numbers, in an order that is the same for all pairs of a type.
template <typename W>
struct Pair {
  Vec<W> a, b;
};

template <typename T>
constexpr int64_t kPair = 2 * kLanes<Wide<T>>;

// Of bfloat16 the even ones and the odd ones: each is half of a word, so that none changes lanes.
template <typename T>
inline Pair<Wide<T>> load_pair(const T* from) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    Words<float> words;
    __builtin_memcpy(&words, from, sizeof(words));
    const Words<float> even = words << 16, odd = words & 0xffff0000u;
    Pair<float> pair;
    __builtin_memcpy(&pair.a, &even, sizeof(even));
    __builtin_memcpy(&pair.b, &odd, sizeof(odd));
    return pair;
  } else {
    return {load_wide(from), load_wide(from + kPair<T> / 2)};
  }
}

// A NaN of arithmetic has no low bits that rounding could carry.
template <typename T>
inline void store_pair(T* to, Pair<Wide<T>> x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    Words<float> even, odd;
    __builtin_memcpy(&even, &x.a, sizeof(even));
    __builtin_memcpy(&odd, &x.b, sizeof(odd));
    const Words<float> words =
        (rounded_to_bfloat16(even) >> 16) | (rounded_to_bfloat16(odd) & 0xffff0000u);
    __builtin_memcpy(to, &words, sizeof(words));
  } else {
    store_narrow(to, x.a);
    store_narrow(to + kPair<T> / 2, x.b);
  }
}

// Calls `run(at, pair)` with all of a row; what is left at its end is filled up by minus infinity,
// which has no share in a softmax.
template <typename T, typename Run>
inline void each_pair(const T* row, int64_t num_columns, const Run& run) {
  int64_t at = 0;
  for (; at + kPair<T> <= num_columns; at += kPair<T>) run(at, load_pair(row + at));
  if (at == num_columns) return;
  T rest[kPair<T>];
  for (T& x : rest) cpu::store(&x, -Wide<T>(__builtin_inf()));
  __builtin_memcpy(rest, row + at, (num_columns - at) * sizeof(T));
  run(at, load_pair<T>(rest));
}

// How far a logit is below the largest, as far as exp_of reaches at most: what is hidden by minus
// infinity may then be multiplied by its share. A NaN stays one.
template <typename W>
inline Vec<W> below(Vec<W> x, W largest) {
  constexpr W kOutOfReach = sizeof(W) == sizeof(float) ? W(-88) : W(-800);
  return larger<W>(all(kOutOfReach), x - largest);
}

// What is left of a row when its softmax stands in its place.
template <typename W>
struct RowSums {
  W lse;       // logarithm of the sum of exponentials
  W expected;  // mean logit, weighted by the softmax
};

// `shares` has room for whole pairs.
template <typename T>
inline RowSums<Wide<T>> softmax_of_row(T* row, int64_t num_columns, Wide<T>* shares) {
  using W = Wide<T>;
  const Vec<W> lowest = all(-W(__builtin_inf()));
  Pair<W> tops{lowest, lowest};
  each_pair(row, num_columns,
            [&](int64_t, Pair<W> x) { tops = {larger<W>(x.a, tops.a), larger<W>(x.b, tops.b)}; });
  const W top = largest_of<W>(larger<W>(tops.a, tops.b));
  Pair<W> sums{}, weighted{};
  each_pair(row, num_columns, [&](int64_t at, Pair<W> x) {
    const Pair<W> distance{below<W>(x.a, top), below<W>(x.b, top)};
    const Pair<W> share{exp_of(distance.a), exp_of(distance.b)};
    sums = {sums.a + share.a, sums.b + share.b};
    weighted = {weighted.a + share.a * distance.a, weighted.b + share.b * distance.b};
    store(shares + at, share.a);
    store(shares + at + kLanes<W>, share.b);
  });
  const W sum = sum_of<W>(sums.a + sums.b), scale = 1 / sum;
  const auto scaled = [&](int64_t at) {
    return Pair<W>{load(shares + at) * scale, load(shares + at + kLanes<W>) * scale};
  };
  int64_t at = 0;
  for (; at + kPair<T> <= num_columns; at += kPair<T>) store_pair(row + at, scaled(at));
  if (at < num_columns) {
    T rest[kPair<T>];
    store_pair<T>(rest, scaled(at));
    __builtin_memcpy(row + at, rest, (num_columns - at) * sizeof(T));
  }
  return {top + log_of(sum), top + sum_of<W>(weighted.a + weighted.b) * scale};
}

template <typename T>
void softmax_choices_of(const SoftmaxChoices<T>& p, Wide<T>* shares, int64_t first_row,
                        int64_t last_row) {
  for (int64_t r = first_row; r < last_row; ++r) {
    T* row = p.logits + r * p.stride;
    Wide<T>* log_probs = p.log_probs + r * p.num_choices;
    for (int64_t k = 0; k < p.num_choices; ++k)
      log_probs[k] = cpu::load(row[p.choices[r * p.num_choices + k]]);
    const RowSums<Wide<T>> sums = softmax_of_row(row, p.num_columns, shares);
    for (int64_t k = 0; k < p.num_choices; ++k) log_probs[k] -= sums.lse;
    p.entropy[r] = sums.lse - sums.expected;
  }
}

}  // namespace mfgan::cpu::MFGAN_ISA
