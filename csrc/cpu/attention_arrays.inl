// Rows of a session as the kernels want them. Follows attention_block.inl.

namespace mfgan::cpu::MFGAN_ISA {

// Asks for rows before they are needed, all arrays of a token together: met one after the other,
// the cache misses of a session would take as long as its arithmetic. Always inline, since GCC
// drops a call that does nothing but prefetch.
template <bool kToWrite, typename W>
__attribute__((always_inline)) inline void fetch_row(const W* row, int64_t dim) {
  constexpr int64_t kLine = 64 / sizeof(W);
  for (int64_t d = 0; d < dim; d += kLine) __builtin_prefetch(row + d, kToWrite);
}

template <bool kToWrite, typename W, typename... Matrices>
__attribute__((always_inline)) inline void fetch_ahead(const Task<W>& t,
                                                       const Matrices&... arrays) {
  constexpr int64_t kMostTokens = 512;
  for (int64_t i = 0; i < smaller(t.length, kMostTokens); ++i)
    (fetch_row<kToWrite>(arrays.row(i), t.dim), ...);
}

// float and double rows of at least a vector are used where they lie; others as wide copies.
template <typename T, typename W>
inline bool in_place(const Task<W>& t) {
  return sizeof(T) == sizeof(W) && t.params.head_dim >= kLanes<W>;
}

template <typename T>
struct Input {
  using W = Wide<T>;
  Matrix<const W> rows;

  Input(const Task<W>& t, const Rows& from, Carver& c) {
    const T* data = static_cast<const T*>(from.data) + t.session * from.token_stride +
                    t.head * from.head_stride;
    if constexpr (sizeof(T) == sizeof(W)) rows = {data, from.token_stride};
    if (in_place<T>(t)) return;
    const int64_t head_dim = t.params.head_dim, stride = padded<W>(head_dim);
    W* copy = c.take<W>(t.length * stride);
    rows = {copy, stride};
    if (!copy) return;
    for (int64_t i = 0; i < t.length; ++i, copy += stride) {
      for (int64_t d = 0; d < head_dim; ++d) copy[d] = cpu::load(data[i * from.token_stride + d]);
      for (int64_t d = head_dim; d < stride; ++d) copy[d] = 0;
    }
  }
};

// Rows of a contiguous (total_tokens, num_heads, head_dim).
template <typename T>
struct Output {
  using W = Wide<T>;
  Matrix<W> rows;
  T* final;

  Output(const Task<W>& t, T* to, Carver& c) {
    const int64_t head_dim = t.params.head_dim, stride = t.params.num_heads * head_dim;
    final = to + t.session * stride + t.head * head_dim;
    if constexpr (sizeof(T) == sizeof(W)) rows = {final, stride};
    if (!in_place<T>(t)) rows = {c.take<W>(t.length * padded<W>(head_dim)), padded<W>(head_dim)};
  }

  void write_back(const Task<W>& t) const {
    if (in_place<T>(t)) return;
    const int64_t head_dim = t.params.head_dim, stride = t.params.num_heads * head_dim;
    for (int64_t i = 0; i < t.length; ++i)
      for (int64_t d = 0; d < head_dim; ++d) cpu::store(final + i * stride + d, rows.row(i)[d]);
  }
};

}  // namespace mfgan::cpu::MFGAN_ISA
