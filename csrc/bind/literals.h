// Lines of Python dictionaries, `{u'id': u'7', u'price': 4.99, u'genres': [u'Action']}`, read into
// columns that Arrow takes as they are. Nothing is ever evaluated.
//
// Understood: str (prefixes u and r, every escape but \N{...}), decimal int and float, True, False,
// None, and lists, tuples, sets and dictionaries of them. bytes, complex, concatenated and
// triple-quoted strings, other bases and comments are malformed here though Python takes them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bind/text.h"

namespace mfgan::literals {

enum class Kind {
  kText,    // a string; anything else is null
  kNumber,  // int, float or bool as double; anything else is null
  kTexts,   // the strings of a list or tuple, or one string alone; anything else is null
};

struct Field {
  std::string key;
  Kind kind;
};

// A string as Arrow's string_view has it: up to twelve bytes in the view itself, a longer one with
// its first four bytes and its place in the column's bytes.
struct View {
  static constexpr size_t kMostInside = 12;

  uint32_t size = 0;
  char text[kMostInside] = {};  // or the first four bytes, a zero and the place, four bytes each
};

// One column, laid out as Arrow's string_view, float64 or large_list<string_view>.
struct Column {
  Kind kind = Kind::kText;
  std::vector<uint8_t> valid;        // a byte a row, 1 where there is a value
  std::vector<double> numbers;       // kNumber
  std::vector<int64_t> list_starts;  // kTexts: rows + 1
  std::vector<View> views;           // kText, kTexts
  Bytes bytes;                       // UTF-8, of the views that are longer
};

struct BadLine {
  int64_t number;  // from 1
  std::string reason;
};

struct Table {
  std::vector<Column> columns;  // one a field, in their order
  std::vector<int64_t> lines;   // the line number of each row, from 1
  int64_t line_count = 0;       // blank ones too
  int64_t bad_count = 0;
  std::vector<BadLine> bad;  // the first of them
};

// Reads every line of `text`; a line that is no dictionary adds no row. Of a key that comes twice
// the last value counts, as in Python. At most `max_reasons` bad lines are named. A zero byte must
// follow the text, as it does in std::string and in Python's bytes.
Table parse(std::string_view text, const std::vector<Field>& fields, size_t max_reasons);

}  // namespace mfgan::literals
