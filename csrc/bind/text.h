// Text as it stands inside Python string literals.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace mfgan::literals {

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
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
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
void append_unescaped(std::string_view text, std::vector<char>& out);

}  // namespace mfgan::literals
