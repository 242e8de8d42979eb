// Rows of a session as the kernels want them. Follows attention_block.inl.

namespace mfgan::cpu::MFGAN_ISA {

// Always inline, since GCC drops a call that does nothing but prefetch.
template <bool kToWrite>
__attribute__((always_inline)) inline void fetch_bytes(const void* from, int64_t size) {
  for (int64_t i = 0; i < size; i += 64)
    __builtin_prefetch(static_cast<const char*>(from) + i, kToWrite);
}

// One token's rows of the heads of a range.
template <typename T>
__attribute__((always_inline)) inline void fetch(const Rows& rows, const AttentionParams& p,
                                                 const AttentionRange& range, int64_t token) {
  const T* data = static_cast<const T*>(rows.data) + token * rows.token_stride;
  for (int64_t head = range.first_head; head < range.last_head; ++head)
    fetch_bytes<false>(data + head * rows.head_stride, p.head_dim * int64_t(sizeof(T)));
}

// The same of a contiguous (total_tokens, num_heads, head_dim).
template <typename T>
__attribute__((always_inline)) inline void fetch_to_write(const T* rows, const AttentionParams& p,
                                                          const AttentionRange& range,
                                                          int64_t token) {
  fetch_bytes<true>(rows + (token * p.num_heads + range.first_head) * p.head_dim,
                    (range.last_head - range.first_head) * p.head_dim * int64_t(sizeof(T)));
}

// Calls run(task) for every session and head of a range that has tokens. The rows of a session,
// and some of the next, are asked for before they are needed, all arrays of a token together: met
// one after the other, cache misses would take as long as the arithmetic.
template <typename W, typename Fetch, typename Run>
inline void each_session(const AttentionParams& p, const AttentionRange& range, const Fetch& fetch,
                         const Run& run) {
  constexpr int64_t kTokensAhead = 16, kMostTokens = 512;
  int64_t fetched = p.cu_seqlens[range.first_session];
  const int64_t end = p.cu_seqlens[range.last_session];
  for (int64_t session = range.first_session; session < range.last_session; ++session) {
    const int64_t first = p.cu_seqlens[session], last = p.cu_seqlens[session + 1];
    for (; fetched < smaller(smaller(last + kTokensAhead, first + kMostTokens), end); ++fetched)
      fetch(fetched);
    for (int64_t head = range.first_head; head < range.last_head; ++head) {
      const Task<W> task(p, session, head);
      if (task.length > 0) run(task);
    }
  }
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
      store(copy + stride - kLanes<W>, Vec<W>{});
      widen(data + i * from.token_stride, head_dim, copy);
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
    for (int64_t i = 0; i < t.length; ++i) narrow(rows.row(i), head_dim, final + i * stride);
  }
};

}  // namespace mfgan::cpu::MFGAN_ISA
