// Keys as earlier lines spelled them. The lines of a file mostly have the same keys in the same
// order, spelled alike, so that one comparison of bytes does for reading a key and looking it up.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "bind/keys.h"
#include "bind/text.h"

namespace mfgan::literals {

// From a key's first character to before its value: `u'price': `.
struct Spelling {
  static constexpr size_t kLongest = 32;

  std::array<char, kLongest> bytes{};
  uint32_t size = 0;
  const Key* key = nullptr;  // nullptr where no field wants it
};

class Spellings {
 public:
  void begin_line() { next_ = 0; }

  // The spelling of the key at `p` where it is the one expected next or one of the few behind it.
  const Spelling* find(const char* p, const char* end) {
    if (end - p < static_cast<ptrdiff_t>(Spelling::kLongest)) return nullptr;
    const size_t stop = std::min(next_ + kAhead, known_.size());
    for (size_t i = next_; i < stop; ++i) {
      if (starts_with(p, known_[i])) {
        next_ = i + 1;
        return &known_[i];
      }
    }
    return nullptr;
  }

  // Puts in, before the one expected next, a spelling that `find` did not know. It must be whole: a
  // string, the colon and the blanks around it.
  void add(const char* begin, const char* end, const Key* key) {
    const auto size = static_cast<size_t>(end - begin);
    if (size > Spelling::kLongest || known_.size() >= kMost) return;
    // Other text has to be checked anew in every line.
    if (std::any_of(begin, end, [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) {
      return;
    }
    Spelling added;
    std::copy(begin, end, added.bytes.begin());
    added.size = static_cast<uint32_t>(size);
    added.key = key;
    known_.insert(known_.begin() + static_cast<ptrdiff_t>(next_++), added);
  }

 private:
  static constexpr size_t kAhead = 4;  // keys that a line may lack one after the other
  static constexpr size_t kMost = 64;

  static bool starts_with(const char* p, const Spelling& known) {
#if defined(__SSE2__)
    const auto equal = [&](size_t at) {
      const auto* mine = reinterpret_cast<const __m128i*>(known.bytes.data() + at);
      const auto* theirs = reinterpret_cast<const __m128i*>(p + at);
      return bits(_mm_cmpeq_epi8(_mm_loadu_si128(mine), _mm_loadu_si128(theirs)));
    };
    const uint64_t other = ~(equal(0) | equal(16) << 16);
    return (other & ((uint64_t{1} << known.size) - 1)) == 0;
#else
    return std::memcmp(p, known.bytes.data(), known.size) == 0;
#endif
  }

  std::vector<Spelling> known_;
  size_t next_ = 0;
};

}  // namespace mfgan::literals
