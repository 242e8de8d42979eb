// One line of text as a Python dictionary; values are kept as places in the text, not copied.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bind/literals.h"
#include "bind/text.h"

namespace mfgan::literals {

struct Text {
  const char* data = nullptr;
  size_t size = 0;
  bool escaped = false;

  std::string_view view() const { return {data, size}; }
};

enum class Type : uint8_t { kAbsent, kText, kNumber, kTrue, kFalse, kNone, kList, kOther };

struct Value {
  Type type = Type::kAbsent;
  bool hashable = true;
  bool negative = false;  // kNumber
  Text text;              // kText; the digits of kNumber
  size_t first = 0;       // kList: its strings are texts[first .. first + count)
  size_t count = 0;
};

// A key and the fields that want its value.
struct Key {
  std::string name;
  std::vector<size_t> fields;
  bool lists;  // whether one of them wants the strings of a list
};

class Keys {
 public:
  explicit Keys(const std::vector<Field>& fields);

  // The key of that name, or nullptr where no field wants it.
  const Key* find(std::string_view name) const;

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  // The slot that holds the key, or the empty one where it would be.
  size_t slot_of(std::string_view name) const;

  std::vector<Key> keys_;
  std::vector<uint32_t> slots_;  // open addressing, into keys_
  size_t mask_ = 0;
};

class Parser {
 public:
  explicit Parser(const std::vector<Field>& fields);

  // Parses one line. `limit` is where the memory ends that holds it: scanning may look beyond the
  // line, never beyond that. Returns whether the line is a dictionary; `reason()` says why not.
  bool parse_line(std::string_view line, const char* limit);

  // The value of each field in the line last parsed.
  const std::vector<Value>& values() const { return values_; }
  const std::vector<Text>& texts() const { return texts_; }
  const std::string& reason() const { return reason_; }

 private:
  bool entries(bool outermost);
  bool entry(bool outermost, const Value& key);
  bool braces(Value& value);
  bool sequence(char close, bool collect, Value& value);
  bool any_value(bool collect, Value& value);
  bool word(Value& value);
  bool string(bool raw, Value& value);
  bool escape();
  bool number(Value& value);
  bool digits();

  void skip_space() {
    while (p_ < end_ && *p_ <= ' ' && (*p_ == ' ' || *p_ == '\t' || *p_ == '\f')) ++p_;
  }
  // A string without a backslash, as nearly all are; otherwise nothing is read.
  bool plain_string(Text& text) {
    const char* open = p_ + (at('u') ? 1 : 0);
    if (open >= end_ || (*open != '\'' && *open != '"')) return false;
    const char* close = find_stop(open + 1, limit_, *open);
    if (close >= end_ || *close != *open) return false;
    text = {open + 1, static_cast<size_t>(close - open - 1), false};
    p_ = close + 1;
    return true;
  }
  bool at(char c) const { return p_ < end_ && *p_ == c; }
  bool open();
  const Key* match(const Value& key);
  bool fail(const char* expected);

  Keys keys_;
  std::vector<Value> values_;
  std::vector<Text> texts_;
  Bytes name_;  // a key with its escapes resolved
  std::string reason_;
  const char* begin_ = nullptr;
  const char* p_ = nullptr;
  const char* end_ = nullptr;
  const char* limit_ = nullptr;
  int depth_ = 0;
};

}  // namespace mfgan::literals
