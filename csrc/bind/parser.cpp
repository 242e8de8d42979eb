#include "bind/parser.h"

#include <algorithm>

#include "bind/text.h"

namespace mfgan::literals {
namespace {

constexpr int kMaxDepth = 64;  // far below what the stack of a thread holds
constexpr int64_t kLastCode = 0x10FFFF;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_word(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

size_t key_hash(std::string_view key) {
  if (key.empty()) return 0;
  const auto first = static_cast<unsigned char>(key.front());
  const auto last = static_cast<unsigned char>(key.back());
  return key.size() * 31 + first * 7 + last;
}

}  // namespace

Keys::Keys(const std::vector<Field>& fields) {
  size_t size = 64;
  while (size < 4 * fields.size()) size *= 2;
  slots_.assign(size, kNone);
  mask_ = size - 1;
  for (size_t i = 0; i < fields.size(); ++i) {
    const size_t slot = slot_of(fields[i].key);
    if (slots_[slot] == kNone) {
      slots_[slot] = static_cast<uint32_t>(keys_.size());
      keys_.push_back({fields[i].key, {}, false});
    }
    Key& key = keys_[slots_[slot]];
    key.fields.push_back(i);
    key.lists = key.lists || fields[i].kind == Kind::kTexts;
  }
}

size_t Keys::slot_of(std::string_view name) const {
  size_t slot = key_hash(name) & mask_;
  while (slots_[slot] != kNone && keys_[slots_[slot]].name != name) slot = (slot + 1) & mask_;
  return slot;
}

const Key* Keys::find(std::string_view name) const {
  const uint32_t key = slots_[slot_of(name)];
  return key == kNone ? nullptr : &keys_[key];
}

Parser::Parser(const std::vector<Field>& fields) : keys_(fields), values_(fields.size()) {}

bool Parser::parse_line(std::string_view line, const char* limit) {
  begin_ = p_ = line.data();
  end_ = p_ + line.size();
  limit_ = limit;
  depth_ = 0;
  texts_.clear();
  std::fill(values_.begin(), values_.end(), Value{});
  skip_space();
  if (!at('{')) return fail("'{'");
  if (!open() || !entries(/*outermost=*/true)) return false;
  skip_space();
  return p_ == end_ || fail("nothing behind the dictionary");
}

bool Parser::open() {
  ++p_;
  return ++depth_ <= kMaxDepth || fail("at most 64 levels");
}

// The entries of a dictionary and its closing brace.
bool Parser::entries(bool outermost) {
  for (skip_space(); !at('}'); skip_space()) {
    Value key;
    if (!any_value(/*collect=*/false, key) || !entry(outermost, key)) return false;
  }
  ++p_;
  --depth_;
  return true;
}

// From behind a key to before the next one or the closing brace.
bool Parser::entry(bool outermost, const Value& key) {
  if (!key.hashable) return fail("a key that is no list or dictionary");
  skip_space();
  if (!at(':')) return fail("':' behind a key");
  ++p_;
  const Key* wanted = outermost ? match(key) : nullptr;
  Value value;
  if (!any_value(wanted != nullptr && wanted->lists, value)) return false;
  if (wanted != nullptr) {
    for (size_t field : wanted->fields) values_[field] = value;
  }
  skip_space();
  if (at(',')) {
    ++p_;
    return true;
  }
  return at('}') || fail("',' or '}'");
}

const Key* Parser::match(const Value& key) {
  if (key.type != Type::kText) return nullptr;
  if (!key.text.escaped) return keys_.find(key.text.view());
  name_.clear();
  append_unescaped(key.text.view(), name_);
  return keys_.find({name_.data(), name_.size()});
}

// A dictionary or a set, which only what follows the first element tells apart.
bool Parser::braces(Value& value) {
  value.type = Type::kOther;
  value.hashable = false;
  if (!open()) return false;
  skip_space();
  if (at('}')) return entries(/*outermost=*/false);
  Value element;
  if (!any_value(/*collect=*/false, element)) return false;
  skip_space();
  if (at(':')) return entry(/*outermost=*/false, element) && entries(/*outermost=*/false);
  for (; !at('}'); skip_space()) {
    if (!element.hashable) return fail("a set of no lists or dictionaries");
    if (!at(',')) return fail("',' or '}'");
    ++p_;
    skip_space();
    if (!at('}') && !any_value(/*collect=*/false, element)) return false;
  }
  ++p_;
  --depth_;
  return element.hashable || fail("a set of no lists or dictionaries");
}

// A list or a tuple, from its opening mark on.
bool Parser::sequence(char close, bool collect, Value& value) {
  if (!open()) return false;
  value.type = Type::kList;
  value.hashable = close == ')';
  value.first = texts_.size();
  size_t count = 0;
  bool comma = false;
  for (skip_space(); !at(close); skip_space()) {
    if (count > 0 && !comma) return fail("',' or the end of a list");
    Text text;
    if (plain_string(text)) {
      if (collect) texts_.push_back(text);
    } else {
      Value element;
      if (!any_value(/*collect=*/false, element)) return false;
      value.hashable = value.hashable && element.hashable;
      if (collect && element.type == Type::kText) texts_.push_back(element.text);
    }
    ++count;
    skip_space();
    comma = at(',');
    if (comma) ++p_;
  }
  if (close == ')' && count == 1 && !comma) return fail("a tuple, not a value in parentheses");
  ++p_;
  --depth_;
  value.count = texts_.size() - value.first;
  return true;
}

bool Parser::any_value(bool collect, Value& value) {
  skip_space();
  if (p_ == end_) return fail("a value");
  if (plain_string(value.text)) {
    value.type = Type::kText;
    return true;
  }
  switch (*p_) {
    case '\'':
    case '"':
      return string(/*raw=*/false, value);
    case '[':
      return sequence(']', collect, value);
    case '(':
      return sequence(')', collect, value);
    case '{':
      return braces(value);
    case '+':
    case '-':
    case '.':
      return number(value);
    default:
      return is_digit(*p_) ? number(value) : word(value);
  }
}

bool Parser::word(Value& value) {
  const char next = end_ - p_ > 1 ? p_[1] : '\0';
  if (next == '\'' || next == '"') {
    const bool raw = *p_ == 'r' || *p_ == 'R';
    if (!raw && *p_ != 'u' && *p_ != 'U') return fail("a string without that prefix");
    ++p_;
    return string(raw, value);
  }
  const char* stop = p_;
  while (stop < end_ && is_word(*stop)) ++stop;
  const std::string_view name(p_, static_cast<size_t>(stop - p_));
  if (name == "None") {
    value.type = Type::kNone;
  } else if (name == "True") {
    value.type = Type::kTrue;
  } else if (name == "False") {
    value.type = Type::kFalse;
  } else {
    return fail("a value");
  }
  p_ = stop;
  return true;
}

bool Parser::string(bool raw, Value& value) {
  const char quote = *p_++;
  value.type = Type::kText;
  value.text = {p_, 0, false};
  // The scan looks up to the end of the memory, so that it never has to look for the line's; what
  // it finds beyond the line is no part of the string.
  for (p_ = find_stop(p_, limit_, quote); p_ < end_; p_ = find_stop(p_, limit_, quote)) {
    if (*p_ == quote) {
      value.text.size = static_cast<size_t>(p_ - value.text.data);
      ++p_;
      return true;
    }
    if (end_ - p_ < 2) break;
    if (raw) {
      p_ += 2;
    } else {
      value.text.escaped = true;
      if (!escape()) return false;
    }
  }
  p_ = end_;
  return fail("a closing quote");
}

// Checks an escape and steps over it, so that resolving it later cannot fail.
bool Parser::escape() {
  const char c = p_[1];
  if (c == 'N') return fail("an escape other than \\N");
  const int count = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
  if (count > 0) {
    const int64_t code = hex_value(p_ + 2, end_, count);
    if (code < 0 || code > kLastCode) return fail("a whole escape");
  }
  p_ += 2 + count;
  return true;
}

bool Parser::digits() {
  if (p_ == end_ || !is_digit(*p_)) return false;
  while (p_ < end_ && (is_digit(*p_) || (*p_ == '_' && end_ - p_ > 1 && is_digit(p_[1])))) ++p_;
  return true;
}

bool Parser::number(Value& value) {
  value.type = Type::kNumber;
  if (at('+') || at('-')) {
    value.negative = *p_++ == '-';
    skip_space();
  }
  const char* start = p_;
  const bool whole = digits();
  const char* whole_end = p_;
  bool floating = at('.');
  if (floating) {
    ++p_;
    if (!digits() && !whole) return fail("a number");
  } else if (!whole) {
    return fail("a number");
  }
  if (at('e') || at('E')) {
    ++p_;
    if (at('+') || at('-')) ++p_;
    if (!digits()) return fail("an exponent");
    floating = true;
  }
  if (p_ < end_ && is_word(*p_)) return fail("a decimal number");
  if (!floating && *start == '0') {
    const bool zero = std::all_of(start, whole_end, [](char c) { return c == '0' || c == '_'; });
    if (!zero) return fail("a number without leading zeros");
  }
  value.text = {start, static_cast<size_t>(p_ - start), false};
  return true;
}

bool Parser::fail(const char* expected) {
  if (p_ >= end_) {
    reason_ = "unexpected end of input";
    return false;
  }
  const auto* byte = reinterpret_cast<const unsigned char*>(p_);
  reason_ = std::string("expected ") + expected + ", got ";
  reason_ += *byte >= 0x20 && *byte < 0x7F ? std::string("'") + *p_ + "'" : "a byte of no text";
  reason_ += " at column " + std::to_string(p_ - begin_ + 1);
  return false;
}

}  // namespace mfgan::literals
