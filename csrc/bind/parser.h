// One line of text as a Python dictionary; values are kept as places in the text, not copied.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bind/keys.h"
#include "bind/literals.h"
#include "bind/spellings.h"
#include "bind/text.h"

namespace mfgan::literals {

struct Text {
  const char* data = nullptr;
  uint32_t size = 0;
  bool escaped = false;

  std::string_view view() const { return {data, size}; }
};

enum class Type : uint8_t { kAbsent, kText, kNumber, kTrue, kFalse, kNone, kList, kOther };

struct Value {
  Type type = Type::kAbsent;
  bool hashable = true;
  bool negative = false;  // kNumber
  uint32_t first = 0;     // kList: its strings are texts[first .. first + count)
  uint32_t count = 0;
  Text text;  // kText; the digits of kNumber
};

class Parser {
 public:
  explicit Parser(const std::vector<Field>& fields);

  enum class Line { kRecord, kBlank, kBad };

  // Parses the line that begins at `begin` and ends before a newline or at `end`, which is at most
  // 4 GiB away. A zero byte must stand at `end`: it belongs to no line, and saves a look at where
  // the text ends before each of its characters.
  Line parse_line(const char* begin, const char* end);

  // How far the line last parsed was read: to its end, unless it is bad.
  const char* position() const { return position_; }
  // The value of each field in the line last parsed.
  const std::vector<Value>& values() const { return values_; }
  const std::vector<Text>& texts() const { return texts_; }
  // Why the line last parsed is bad.
  const std::string& reason() const { return reason_; }

 private:
  // Each of these reads from `p` on; it returns what it has come to, or nullptr after `fail`. The
  // place is handed on rather than kept in a member, because the next step waits for it and memory
  // is farther than a register.
  const char* record(const char* p);
  const char* open(const char* p);
  const char* fields(const char* p);
  const char* key_of_field(const char* p, const Key** wanted);
  const char* entries(const char* p);
  const char* entry(const char* p, const Value& key);
  const char* end_of_key(const char* p, const Value& key);
  const char* end_of_entry(const char* p);
  const char* braces(const char* p, Value& value);
  const char* elements_of_set(const char* p, Value& element);
  const char* sequence(const char* p, char close, bool collect, Value& value);
  const char* any_value(const char* p, bool collect, Value& value);
  const char* word(const char* p, Value& value);
  const char* string(const char* p, bool raw, Text& text);
  const char* long_string(const char* start, char quote, bool raw, Text& text);
  const char* end_of_string(const char* start, const char* p, char quote, bool raw, bool escaped,
                            Text& text);
  const char* escape(const char* p, bool raw);
  const char* number(const char* p, Value& value);
  const char* digits(const char* p) const;

  static const char* skip_space(const char* p) {
    while (*p == ' ' || *p == '\t' || *p == '\f') ++p;
    return p;
  }
  // Whether the line ends at `p`.
  bool at_end(const char* p) const {
    if (p == end_ || *p == '\n') return true;
    return *p == '\r' && (p + 1 == end_ || p[1] == '\n');
  }
  const Key* match(const Value& key);
  const char* fail(const char* p, const char* expected);
  const char* refuse(const char* p, const char* reason);

  Keys keys_;
  Spellings spellings_;
  std::vector<Value> values_;
  std::vector<Text> texts_;
  Bytes name_;  // a key with its escapes resolved
  std::string reason_;
  const char* begin_ = nullptr;
  const char* end_ = nullptr;
  const char* position_ = nullptr;
  uint64_t seen_ = 0;  // not zero where its strings may hold more than ASCII
  int depth_ = 0;
};

}  // namespace mfgan::literals
