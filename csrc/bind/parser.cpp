#include "bind/parser.h"

#include <algorithm>
#include <array>

#include "bind/text.h"

namespace mfgan::literals {
namespace {

constexpr int kMaxDepth = 64;  // far below what the stack of a thread holds
constexpr int64_t kLastCode = 0x10FFFF;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// The digits that an escape needs by the character behind its backslash; 8 has it looked at closer.
constexpr auto kHexDigits = [] {
  std::array<uint8_t, 256> digits{};
  digits['x'] = 2;
  digits['u'] = 4;
  for (char c : {'U', 'N', '\n', '\r', '\0'}) digits[static_cast<unsigned char>(c)] = 8;
  return digits;
}();

bool is_quote(char c) { return c == '\'' || c == '"'; }

bool is_word(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

}  // namespace

Parser::Parser(const std::vector<Field>& fields) : keys_(fields), values_(fields.size()) {}

Parser::Line Parser::parse_line(const char* begin, const char* end) {
  begin_ = position_ = begin;
  end_ = end;
  seen_ = 0;
  depth_ = 0;
  texts_.clear();
  std::fill(values_.begin(), values_.end(), Value{});
  const char* p = skip_space(begin);
  if (at_end(p)) return Line::kBlank;
  p = record(p);
  if (p == nullptr) return Line::kBad;
  position_ = p;
  return Line::kRecord;
}

const char* Parser::record(const char* p) {
  if (*p != '{') return fail(p, "'{'");
  p = open(p);
  if (p != nullptr) p = fields(p);
  if (p == nullptr) return nullptr;
  p = skip_space(p);
  if (!at_end(p)) return fail(p, "nothing behind the dictionary");
  // Nothing but strings may hold other bytes.
  const bool text = seen_ == 0 || is_utf8({begin_, static_cast<size_t>(p - begin_)});
  return text ? p : refuse(p, "bytes that are not UTF-8");
}

const char* Parser::open(const char* p) {
  ++p;
  return ++depth_ <= kMaxDepth ? p : fail(p, "at most 64 levels");
}

// The entries of the outermost dictionary and its closing brace.
const char* Parser::fields(const char* p) {
  spellings_.begin_line();
  for (p = skip_space(p); *p != '}'; p = skip_space(p)) {
    const Key* wanted = nullptr;
    if (const Spelling* known = spellings_.find(p, end_)) {
      wanted = known->key;
      p = skip_space(p + known->size);
    } else {
      p = key_of_field(p, &wanted);
      if (p == nullptr) return nullptr;
    }
    Value value;
    p = any_value(p, wanted != nullptr && wanted->lists, value);
    if (p == nullptr) return nullptr;
    if (wanted != nullptr) {
      for (size_t field : wanted->fields) values_[field] = value;
    }
    p = end_of_entry(p);
    if (p == nullptr) return nullptr;
  }
  --depth_;
  return p + 1;
}

// From a key that was not spelled so before to its value.
const char* Parser::key_of_field(const char* p, const Key** wanted) {
  const char* start = p;
  Value key;
  p = any_value(p, /*collect=*/false, key);
  if (p == nullptr) return nullptr;
  p = end_of_key(p, key);
  if (p == nullptr) return nullptr;
  *wanted = match(key);
  if (key.type == Type::kText) spellings_.add(start, p, *wanted);
  return p;
}

// The entries of a dictionary within a value and its closing brace.
const char* Parser::entries(const char* p) {
  for (p = skip_space(p); *p != '}'; p = skip_space(p)) {
    Value key;
    p = any_value(p, /*collect=*/false, key);
    if (p != nullptr) p = entry(p, key);
    if (p == nullptr) return nullptr;
  }
  --depth_;
  return p + 1;
}

// From behind a key to before the next one or the closing brace.
const char* Parser::entry(const char* p, const Value& key) {
  p = end_of_key(p, key);
  if (p == nullptr) return nullptr;
  Value value;
  p = any_value(p, /*collect=*/false, value);
  return p == nullptr ? nullptr : end_of_entry(p);
}

// From behind a key to its value.
const char* Parser::end_of_key(const char* p, const Value& key) {
  if (!key.hashable) return fail(p, "a key that is no list or dictionary");
  p = skip_space(p);
  return *p == ':' ? skip_space(p + 1) : fail(p, "':' behind a key");
}

const char* Parser::end_of_entry(const char* p) {
  p = skip_space(p);
  if (*p == ',') return p + 1;
  return *p == '}' ? p : fail(p, "',' or '}'");
}

const Key* Parser::match(const Value& key) {
  if (key.type != Type::kText) return nullptr;
  if (!key.text.escaped) return keys_.find(key.text.view());
  name_.clear();
  append_unescaped(key.text.view(), name_);
  return keys_.find({name_.data(), name_.size()});
}

// A dictionary or a set, which only what follows the first element tells apart.
const char* Parser::braces(const char* p, Value& value) {
  value.type = Type::kOther;
  value.hashable = false;
  p = open(p);
  if (p == nullptr) return nullptr;
  p = skip_space(p);
  if (*p == '}') return entries(p);
  Value element;
  p = any_value(p, /*collect=*/false, element);
  if (p == nullptr) return nullptr;
  p = skip_space(p);
  if (*p == ':') {
    p = entry(p, element);
    return p == nullptr ? nullptr : entries(p);
  }
  return elements_of_set(p, element);
}

// From behind the first element of a set to behind its closing brace.
const char* Parser::elements_of_set(const char* p, Value& element) {
  while (true) {
    if (!element.hashable) return fail(p, "a set of no lists or dictionaries");
    if (*p == '}') break;
    if (*p != ',') return fail(p, "',' or '}'");
    p = skip_space(p + 1);
    if (*p == '}') break;
    p = any_value(p, /*collect=*/false, element);
    if (p == nullptr) return nullptr;
    p = skip_space(p);
  }
  --depth_;
  return p + 1;
}

// A list or a tuple, from its opening mark on.
const char* Parser::sequence(const char* p, char close, bool collect, Value& value) {
  p = open(p);
  if (p == nullptr) return nullptr;
  value.type = Type::kList;
  value.hashable = close == ')';
  value.first = static_cast<uint32_t>(texts_.size());
  size_t count = 0;
  bool comma = true;
  for (p = skip_space(p); *p != close; p = skip_space(p)) {
    if (!comma) return fail(p, "',' or the end of a list");
    Value element;
    p = any_value(p, /*collect=*/false, element);
    if (p == nullptr) return nullptr;
    value.hashable = value.hashable && element.hashable;
    if (collect && element.type == Type::kText) texts_.push_back(element.text);
    ++count;
    p = skip_space(p);
    comma = *p == ',';
    p += comma ? 1 : 0;
  }
  if (close == ')' && count == 1 && !comma) {
    return fail(p, "a tuple, not a value in parentheses");
  }
  --depth_;
  value.count = static_cast<uint32_t>(texts_.size()) - value.first;
  return p + 1;
}

// A value, from its first character on.
const char* Parser::any_value(const char* p, bool collect, Value& value) {
  const char* quote = p + (*p == 'u' ? 1 : 0);
  if (is_quote(*quote)) {
    value.type = Type::kText;
    return string(quote, /*raw=*/false, value.text);
  }
  switch (*p) {
    case '[':
      return sequence(p, ']', collect, value);
    case '(':
      return sequence(p, ')', collect, value);
    case '{':
      return braces(p, value);
    case '+':
    case '-':
    case '.':
      return number(p, value);
    default:
      return is_digit(*p) ? number(p, value) : word(p, value);
  }
}

const char* Parser::word(const char* p, Value& value) {
  if (*p != '\0' && is_quote(p[1])) {
    const bool raw = *p == 'r' || *p == 'R';
    if (!raw && *p != 'U') return fail(p, "a string without that prefix");
    value.type = Type::kText;
    return string(p + 1, raw, value.text);
  }
  const char* stop = p;
  while (is_word(*stop)) ++stop;
  const std::string_view name(p, static_cast<size_t>(stop - p));
  if (name == "None") {
    value.type = Type::kNone;
  } else if (name == "True") {
    value.type = Type::kTrue;
  } else if (name == "False") {
    value.type = Type::kFalse;
  } else {
    return fail(p, "a value");
  }
  return stop;
}

// From the opening quote to behind the closing one.
const char* Parser::string(const char* p, bool raw, Text& text) {
  const char quote = *p++;
  if (end_ - p >= 16) {
    // Most strings are shorter than a block and have no escape.
    const Stops stops = stops_in_16(p, quote, seen_);
    if (const uint64_t any = stops.any(); (any & -any & stops.quotes) != 0) {
      const auto size = static_cast<uint32_t>(__builtin_ctzll(any));
      text = {p, size, false};
      return p + size + 1;
    }
  }
  return long_string(p, quote, raw, text);
}

// From behind the opening quote to behind the closing one.
const char* Parser::long_string(const char* start, char quote, bool raw, Text& text) {
  bool escaped = false;
  const char* p = start;
  while (end_ - p >= 64) {
    const char* block = p;
    const Stops stops = stops_in_64(block, quote, seen_);
    uint64_t left = stops.any();
    for (p = block + 64; left != 0;
         left = p - block < 64 ? left & (~uint64_t{0} << (p - block)) : 0) {
      const uint64_t first = left & -left;
      p = block + __builtin_ctzll(left);
      if ((first & stops.slashes) == 0) return end_of_string(start, p, quote, raw, escaped, text);
      p = escape(p, raw);
      if (p == nullptr) return nullptr;
      escaped = !raw;
    }
  }
  return end_of_string(start, p, quote, raw, escaped, text);
}

// Goes on from `p` character by character.
const char* Parser::end_of_string(const char* start, const char* p, char quote, bool raw,
                                  bool escaped, Text& text) {
  while (!at_end(p = find_stop(p, end_, quote, seen_))) {
    if (*p == quote) {
      text = {start, static_cast<uint32_t>(p - start), escaped};
      return p + 1;
    }
    if (*p == '\\') {
      p = escape(p, raw);
      if (p == nullptr) return nullptr;
      escaped = !raw;
    } else if (*p == '\r') {
      return refuse(p, "a carriage return within the line");
    } else if (*p == '\0') {
      return refuse(p, "a zero byte");
    } else {
      ++p;  // a tab, say
    }
  }
  return fail(p, "a closing quote");
}

// Checks an escape and steps over it, so that resolving it later cannot fail.
const char* Parser::escape(const char* p, bool raw) {
  const char c = p[1];
  if (!raw && end_ - p >= 10) {
    // Which escape comes next cannot be foretold, so that a branch on it would cost more.
    const size_t needed = kHexDigits[static_cast<unsigned char>(c)];
    if (needed < 8 && leading_hex(p + 2) >= needed) return p + 2 + needed;
  }
  // Where the line ends or may not hold what follows, the caller finds that.
  if (c == '\n' || c == '\r' || c == '\0') return p + 1;
  if (raw) return p + 2;
  if (c == 'N') return fail(p, "an escape other than \\N");
  const int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
  if (digits > 0) {
    const int64_t code = hex_value(p + 2, end_, digits);
    if (code < 0 || code > kLastCode) return fail(p, "a whole escape");
  }
  return p + 2 + digits;
}

// Behind the digits at `p`, single underscores between them; `p` itself where there is none.
const char* Parser::digits(const char* p) const {
  if (end_ - p >= 8) {
    const size_t count = leading_digits(p);
    if (count == 0) return p;
    p += count;
    if (count < 8 && *p != '_') return p;
  } else if (!is_digit(*p)) {
    return p;
  }
  while (is_digit(*p) || (*p == '_' && is_digit(p[1]) && is_digit(p[-1]))) ++p;
  return p;
}

const char* Parser::number(const char* p, Value& value) {
  value.type = Type::kNumber;
  if (*p == '+' || *p == '-') {
    value.negative = *p == '-';
    p = skip_space(p + 1);
  }
  const char* start = p;
  const char* whole_end = p = digits(p);
  bool floating = *p == '.';
  if (floating) {
    const char* fraction = p + 1;
    p = digits(fraction);
    if (p == fraction && whole_end == start) return fail(p, "a number");
  } else if (p == start) {
    return fail(p, "a number");
  }
  if (*p == 'e' || *p == 'E') {
    ++p;
    p += *p == '+' || *p == '-' ? 1 : 0;
    const char* exponent = p;
    p = digits(p);
    if (p == exponent) return fail(p, "an exponent");
    floating = true;
  }
  if (is_word(*p)) return fail(p, "a decimal number");
  if (!floating && *start == '0' && p - start > 1) {
    const bool zero = std::all_of(start, whole_end, [](char c) { return c == '0' || c == '_'; });
    if (!zero) return fail(p, "a number without leading zeros");
  }
  value.text = {start, static_cast<uint32_t>(p - start), false};
  return p;
}

const char* Parser::fail(const char* p, const char* expected) {
  if (at_end(p)) return refuse(p, "unexpected end of input");
  const auto byte = static_cast<unsigned char>(*p);
  reason_ = std::string("expected ") + expected + ", got ";
  reason_ += byte >= 0x20 && byte < 0x7F ? std::string("'") + *p + "'" : "a byte of no text";
  reason_ += " at column " + std::to_string(p - begin_ + 1);
  position_ = p;
  return nullptr;
}

const char* Parser::refuse(const char* p, const char* reason) {
  reason_ = reason;
  position_ = p;
  return nullptr;
}

}  // namespace mfgan::literals
