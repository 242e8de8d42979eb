#include "bind/text.h"

namespace mfgan::literals {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_octal(char c) { return c >= '0' && c <= '7'; }

void append_utf8(uint32_t code, Bytes& out) {
  if (code < 0x80) {
    out.push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out.push_back(static_cast<char>(0xC0 | (code >> 6)));
    out.push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else if (code < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | (code >> 12)));
    out.push_back(static_cast<char>(0x80 | ((code >> 6) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else {
    out.push_back(static_cast<char>(0xF0 | (code >> 18)));
    out.push_back(static_cast<char>(0x80 | ((code >> 12) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | ((code >> 6) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (code & 0x3F)));
  }
}

bool is_high_surrogate(uint32_t code) { return code >= 0xD800 && code < 0xDC00; }
bool is_low_surrogate(uint32_t code) { return code >= 0xDC00 && code < 0xE000; }

// Surrogates come one escape at a time, so a high one waits for what follows it.
class Writer {
 public:
  explicit Writer(Bytes& out) : out_(out) {}
  ~Writer() { flush(); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void code(uint32_t code) {
    if (high_ != 0 && is_low_surrogate(code)) {
      append_utf8(0x10000 + ((high_ - 0xD800) << 10) + (code - 0xDC00), out_);
      high_ = 0;
      return;
    }
    flush();
    if (is_high_surrogate(code)) {
      high_ = code;
    } else {
      append_utf8(is_low_surrogate(code) ? kReplacement : code, out_);
    }
  }

  void raw(const char* p, const char* end) {
    if (p == end) return;
    flush();
    out_.append(p, static_cast<size_t>(end - p));
  }

 private:
  static constexpr uint32_t kReplacement = 0xFFFD;

  void flush() {
    if (high_ != 0) append_utf8(kReplacement, out_);
    high_ = 0;
  }

  Bytes& out_;
  uint32_t high_ = 0;
};

// What a letter behind a backslash stands for, or -1 where it stands for itself and the backslash.
int simple_escape(char c) {
  switch (c) {
    case 'n':
      return '\n';
    case 't':
      return '\t';
    case 'r':
      return '\r';
    case 'a':
      return '\a';
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'v':
      return '\v';
    case '\\':
    case '\'':
    case '"':
      return c;
    default:
      return -1;
  }
}

// Writes the escape at `p`, the character behind the backslash; returns what follows it.
const char* write_escape(const char* p, const char* end, Writer& writer) {
  const int digits = *p == 'x' ? 2 : *p == 'u' ? 4 : *p == 'U' ? 8 : 0;
  if (digits != 0) {
    writer.code(static_cast<uint32_t>(hex_value(p + 1, end, digits)));
    return p + 1 + digits;
  }
  if (is_octal(*p)) {
    uint32_t code = 0;
    const char* stop = end - p > 3 ? p + 3 : end;
    for (; p < stop && is_octal(*p); ++p) code = code * 8 + static_cast<uint32_t>(*p - '0');
    writer.code(code);
    return p;
  }
  const int simple = simple_escape(*p);
  if (simple < 0) {
    writer.raw(p - 1, p + 1);
  } else {
    writer.code(static_cast<uint32_t>(simple));
  }
  return p + 1;
}

}  // namespace

int64_t hex_value(const char* p, const char* end, int digits) {
  if (end - p < digits) return -1;
  int64_t value = 0;
  for (int i = 0; i < digits; ++i) {
    const int digit = hex_digit(p[i]);
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

void append_unescaped(std::string_view text, Bytes& out) {
  const char *p = text.data(), *end = p + text.size();
  Writer writer(out);
  while (p < end) {
    const void* found = std::memchr(p, '\\', static_cast<size_t>(end - p));
    const char* slash = found == nullptr ? end : static_cast<const char*>(found);
    writer.raw(p, slash);
    if (slash == end) return;
    p = write_escape(slash + 1, end, writer);
  }
}

bool is_utf8(std::string_view text) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  const auto* end = p + text.size();
  while (p < end) {
    if (*p < 0x80) {
      ++p;
      continue;
    }
    const int more = *p >= 0xF0 ? 3 : *p >= 0xE0 ? 2 : 1;
    if (*p < 0xC2 || *p > 0xF4 || end - p <= more) return false;
    uint32_t code = *p & (0x3Fu >> more);
    for (int i = 1; i <= more; ++i) {
      if ((p[i] & 0xC0) != 0x80) return false;
      code = code << 6 | (p[i] & 0x3F);
    }
    const uint32_t least = more == 3 ? 0x10000 : more == 2 ? 0x800 : 0x80;
    if (code < least || code > 0x10FFFF || is_high_surrogate(code) || is_low_surrogate(code)) {
      return false;
    }
    p += more + 1;
  }
  return true;
}

}  // namespace mfgan::literals
