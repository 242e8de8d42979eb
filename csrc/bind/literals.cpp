#include "bind/literals.h"

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "bind/parser.h"

namespace mfgan::literals {
namespace {

double to_double(const Value& value) {
  std::string digits;
  std::string_view token = value.text.view();
  if (token.find('_') != std::string_view::npos) {
    for (char c : token) {
      if (c != '_') digits.push_back(c);
    }
    token = digits;
  }
  double number = 0;
  const auto read = std::from_chars(token.data(), token.data() + token.size(), number);
  // from_chars does not say whether a number is too large or too small.
  if (read.ec == std::errc::result_out_of_range)
    number = std::strtod(std::string(token).c_str(), nullptr);
  return value.negative ? -number : number;
}

View make_view(const char* text, size_t size, size_t place) {
  View view;
  view.size = static_cast<uint32_t>(size);
  if (size <= View::kMostInside) {
    copy_short(view.text, text, size);
  } else {
    const auto place32 = static_cast<uint32_t>(place);
    std::memcpy(view.text, text, 4);
    std::memcpy(view.text + 8, &place32, 4);
  }
  return view;
}

void append_text(const Text& text, Column& column) {
  const size_t place = column.bytes.size();
  if (text.escaped) {
    append_unescaped(text.view(), column.bytes);
    const size_t size = column.bytes.size() - place;
    column.views.push_back(make_view(column.bytes.data() + place, size, place));
    if (size <= View::kMostInside) column.bytes.shrink(place);
    return;
  }
  column.views.push_back(make_view(text.data, text.size, place));
  if (text.size > View::kMostInside) column.bytes.append(text.data, text.size);
}

bool append_number(const Value& value, Column& column) {
  const bool is_bool = value.type == Type::kTrue || value.type == Type::kFalse;
  const bool valid = is_bool || value.type == Type::kNumber;
  const double number = is_bool ? (value.type == Type::kTrue ? 1 : 0) : 0;
  column.numbers.push_back(value.type == Type::kNumber ? to_double(value) : number);
  return valid;
}

bool append_texts(const Value& value, const std::vector<Text>& texts, Column& column) {
  if (value.type == Type::kText) {
    append_text(value.text, column);
  } else if (value.type == Type::kList) {
    for (size_t i = 0; i < value.count; ++i) append_text(texts[value.first + i], column);
  }
  column.list_starts.push_back(static_cast<int64_t>(column.views.size()));
  return value.type == Type::kText || value.type == Type::kList;
}

void append_row(const Value& value, const std::vector<Text>& texts, Column& column) {
  bool valid = false;
  switch (column.kind) {
    case Kind::kText:
      valid = value.type == Type::kText;
      append_text(valid ? value.text : Text{}, column);
      break;
    case Kind::kNumber:
      valid = append_number(value, column);
      break;
    case Kind::kTexts:
      valid = append_texts(value, texts, column);
      break;
  }
  column.valid.push_back(valid ? 1 : 0);
}

void add_bad(Table& table, const std::string& reason, size_t max_reasons) {
  ++table.bad_count;
  if (table.bad.size() < max_reasons) table.bad.push_back({table.line_count, reason});
}

}  // namespace

Table parse(std::string_view text, const std::vector<Field>& fields, size_t max_reasons) {
  if (text.size() > INT32_MAX) throw std::length_error("parse_literals: text must be below 2 GiB");
  Table table;
  for (const Field& field : fields) {
    Column column;
    column.kind = field.kind;
    if (field.kind == Kind::kTexts) column.list_starts.push_back(0);
    table.columns.push_back(std::move(column));
  }
  Parser parser(fields);
  const char *p = text.data(), *end = p + text.size();
  while (p < end) {
    ++table.line_count;
    const Parser::Line line = parser.parse_line(p, end);
    if (line == Parser::Line::kRecord) {
      table.lines.push_back(table.line_count);
      for (size_t i = 0; i < fields.size(); ++i) {
        append_row(parser.values()[i], parser.texts(), table.columns[i]);
      }
    } else if (line == Parser::Line::kBad) {
      add_bad(table, parser.reason(), max_reasons);
    }
    p = parser.position();
    const void* newline = p == end ? nullptr : std::memchr(p, '\n', static_cast<size_t>(end - p));
    p = newline == nullptr ? end : static_cast<const char*>(newline) + 1;
  }
  return table;
}

}  // namespace mfgan::literals
