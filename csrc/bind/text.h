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

// Copies at most sixteen bytes. A call of memcpy costs more than that.
inline void copy_short(char* to, const char* from, size_t count) {
  if (count >= 8) {  // two copies of a fixed size, which overlap
    std::memcpy(to, from, 8);
    std::memcpy(to + count - 8, from + count - 8, 8);
  } else if (count >= 4) {
    std::memcpy(to, from, 4);
    std::memcpy(to + count - 4, from + count - 4, 4);
  } else {
    for (size_t i = 0; i < count; ++i) to[i] = from[i];
  }
}

// Bytes that grow at the end. A string of this text is ten bytes long on average, where std::vector
// spends more on the call of memmove than on the copy.
class Bytes {
 public:
  const char* data() const { return data_.get(); }
  size_t size() const { return size_; }
  void clear() { shrink(0); }
  void shrink(size_t size) { size_ = size; }

  void push_back(char c) { append(&c, 1); }

  void append(const char* from, size_t count) {
    if (capacity_ - size_ < count) grow(count);
    char* to = data_.get() + size_;
    size_ += count;
    if (count > 16) {
      std::memcpy(to, from, count);
    } else {
      copy_short(to, from, count);
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

constexpr uint64_t kHighBits = 0x8080808080808080u;

inline uint64_t load8(const char* p) {
  uint64_t word;
  std::memcpy(&word, p, sizeof(word));
  return word;
}

inline uint32_t load4(const char* p) {
  uint32_t word;
  std::memcpy(&word, p, sizeof(word));
  return word;
}

inline uint64_t all_bytes(int c) { return 0x0101010101010101u * static_cast<unsigned char>(c); }

// Eight bytes, the first of them lowest.
inline uint64_t load8_in_order(const char* p) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  return __builtin_bswap64(load8(p));
#else
  return load8(p);
#endif
}

// The high bit of each byte that is less than `bound`, at most 0x80.
inline uint64_t bytes_below(uint64_t word, int bound) {
  return ~((word & ~kHighBits) + all_bytes(0x80 - bound)) & ~word & kHighBits;
}

inline uint64_t digit_bytes(uint64_t word) { return bytes_below(word ^ all_bytes('0'), 10); }

inline uint64_t hex_bytes(uint64_t word) {
  // a to f, and A to F, become 1 to 6.
  const uint64_t letter = (word | all_bytes(0x20)) ^ all_bytes(0x60);
  return digit_bytes(word) | (bytes_below(letter, 7) & ~bytes_below(letter, 1));
}

// How many bytes come before the first whose high bit is clear in `marks`.
inline size_t leading(uint64_t marks) {
  const uint64_t other = ~marks & kHighBits;
  return other == 0 ? 8 : static_cast<size_t>(__builtin_ctzll(other)) >> 3;
}

// How many of the eight bytes at `p` are digits, before the first that is none.
inline size_t leading_digits(const char* p) { return leading(digit_bytes(load8_in_order(p))); }
inline size_t leading_hex(const char* p) { return leading(hex_bytes(load8_in_order(p))); }

// Where in a block of text a string may stop, a bit a byte, the first lowest.
struct Stops {
  uint64_t quotes = 0, slashes = 0, controls = 0;

  uint64_t any() const { return quotes | slashes | controls; }
};

#if defined(__SSE2__)
inline uint64_t bits(__m128i bytes) { return static_cast<uint64_t>(_mm_movemask_epi8(bytes)); }

// Whether some of sixteen bytes is no ASCII is added to `seen`.
inline Stops stops_in_16(const char* p, char quote, uint64_t& seen) {
  const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(0x1F)), block);
  seen |= bits(block);
  return {bits(_mm_cmpeq_epi8(block, _mm_set1_epi8(quote))),
          bits(_mm_cmpeq_epi8(block, _mm_set1_epi8('\\'))), bits(control)};
}
#else
inline Stops stops_in_16(const char* p, char quote, uint64_t& seen) {
  Stops stops;
  for (int i = 0; i < 16; ++i) {
    const auto byte = static_cast<unsigned char>(p[i]);
    seen |= byte >> 7;
    stops.quotes |= uint64_t{p[i] == quote} << i;
    stops.slashes |= uint64_t{p[i] == '\\'} << i;
    stops.controls |= uint64_t{byte < 0x20} << i;
  }
  return stops;
}
#endif

inline Stops stops_in_64(const char* p, char quote, uint64_t& seen) {
  Stops stops;
  for (int i = 0; i < 64; i += 16) {
    const Stops part = stops_in_16(p + i, quote, seen);
    stops.quotes |= part.quotes << i;
    stops.slashes |= part.slashes << i;
    stops.controls |= part.controls << i;
  }
  return stops;
}

// The first quote, backslash or control character from `p` on, or `end`.
inline const char* find_stop(const char* p, const char* end, char quote, uint64_t& seen) {
  for (; p < end; ++p) {
    const auto byte = static_cast<unsigned char>(*p);
    seen |= byte >> 7;
    if (byte < 0x20 || *p == quote || *p == '\\') return p;
  }
  return p;
}

bool is_utf8(std::string_view text);

// The value of `digits` hexadecimal digits at `p`, or -1 where there are fewer before `end`.
int64_t hex_value(const char* p, const char* end, int digits);

// Appends what the escapes of `text` stand for, as UTF-8. Every escape must have been checked. A
// surrogate pair is one character, a lone surrogate U+FFFD.
void append_unescaped(std::string_view text, Bytes& out);

}  // namespace mfgan::literals
