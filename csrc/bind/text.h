// Text as it stands inside Python string literals.
#pragma once

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>

namespace mfgan::literals {

// Bytes that grow at the end. A string of this text is ten bytes long on average, where std::vector
// spends more on the call of memmove than on the copy.
class Bytes {
 public:
  const char* data() const { return data_.get(); }
  size_t size() const { return size_; }
  void clear() { size_ = 0; }

  void push_back(char c) { append(&c, 1); }

  void append(const char* from, size_t count) {
    if (capacity_ - size_ < count) grow(count);
    char* to = data_.get() + size_;
    size_ += count;
    if (count > 16) {
      std::memcpy(to, from, count);
    } else if (count >= 8) {  // two copies of a fixed size, which overlap
      std::memcpy(to, from, 8);
      std::memcpy(to + count - 8, from + count - 8, 8);
    } else if (count >= 4) {
      std::memcpy(to, from, 4);
      std::memcpy(to + count - 4, from + count - 4, 4);
    } else {
      for (size_t i = 0; i < count; ++i) to[i] = from[i];
    }
  }

 private:
  struct Free {
    void operator()(char* p) const { std::free(p); }
  };

  void grow(size_t count) {
    const size_t wanted = std::max(2 * capacity_, std::max<size_t>(size_ + count, 1024));
    char* moved = static_cast<char*>(std::realloc(data_.get(), wanted));
    if (moved == nullptr) throw std::bad_alloc();
    (void)data_.release();
    data_.reset(moved);
    capacity_ = wanted;
  }

  std::unique_ptr<char, Free> data_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

inline uint64_t load8(const char* p) {
  uint64_t word;
  std::memcpy(&word, p, sizeof(word));
  return word;
}

// The high bit of each byte that is zero; bytes above the lowest such one may be wrong.
inline uint64_t zero_bytes(uint64_t word) {
  return (word - 0x0101010101010101u) & ~word & 0x8080808080808080u;
}

inline uint64_t all_bytes(char c) { return 0x0101010101010101u * static_cast<unsigned char>(c); }

// The first quote or backslash at or after `p`, or `end`.
inline const char* find_stop(const char* p, const char* end, char quote) {
#if defined(__SSE2__)
  const __m128i quotes = _mm_set1_epi8(quote), slashes = _mm_set1_epi8('\\');
  for (; end - p >= 16; p += 16) {
    const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const __m128i hit = _mm_or_si128(_mm_cmpeq_epi8(block, quotes), _mm_cmpeq_epi8(block, slashes));
    const int mask = _mm_movemask_epi8(hit);
    if (mask != 0) return p + __builtin_ctz(static_cast<unsigned>(mask));
  }
#elif __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  const uint64_t quotes = all_bytes(quote), slashes = all_bytes('\\');
  for (; end - p >= 8; p += 8) {
    const uint64_t word = load8(p);
    const uint64_t hit = zero_bytes(word ^ quotes) | zero_bytes(word ^ slashes);
    if (hit != 0) return p + (__builtin_ctzll(hit) >> 3);
  }
#endif
  while (p < end && *p != quote && *p != '\\') ++p;
  return p;
}

inline bool is_ascii(std::string_view text) {
  const char *p = text.data(), *end = p + text.size();
  uint64_t seen = 0;
  for (; end - p >= 8; p += 8) seen |= load8(p);
  for (; p < end; ++p) seen |= static_cast<unsigned char>(*p);
  return (seen & 0x8080808080808080u) == 0;
}

bool is_utf8(std::string_view text);

// The value of `digits` hexadecimal digits at `p`, or -1 where there are fewer before `end`.
int64_t hex_value(const char* p, const char* end, int digits);

// Appends what the escapes of `text` stand for, as UTF-8. Every escape must have been checked. A
// surrogate pair is one character, a lone surrogate U+FFFD.
void append_unescaped(std::string_view text, Bytes& out);

}  // namespace mfgan::literals
