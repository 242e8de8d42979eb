// One line of text as a Python dictionary; values are kept as places in the text, not copied.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bind/literals.h"

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
    while (p_ < end_ && (*p_ == ' ' || *p_ == '\t' || *p_ == '\f')) ++p_;
  }
  bool at(char c) const { return p_ < end_ && *p_ == c; }
  bool open();
  bool match(const Value& key);
  bool fail(const char* expected);

  const std::vector<Field>& fields_;
  std::vector<Value> values_;
  std::vector<Text> texts_;
  std::vector<size_t> matched_;  // fields that the key last read belongs to
  std::vector<char> key_;        // a key with its escapes resolved
  std::string reason_;
  const char* begin_ = nullptr;
  const char* p_ = nullptr;
  const char* end_ = nullptr;
  const char* limit_ = nullptr;
  int depth_ = 0;
};

}  // namespace mfgan::literals
