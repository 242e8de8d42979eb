// mfgan._native: host helpers for Python that take no tensors.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string_view>
#include <utility>

#include "bind/literals.h"

namespace py = pybind11;
namespace literals = mfgan::literals;

namespace {

constexpr size_t kMaxReasons = 3;

// A numpy array that owns the vector's memory, without a copy.
template <typename T>
py::array_t<T> to_numpy(std::vector<T>&& values) {
  auto* owned = new std::vector<T>(std::move(values));
  py::capsule owner(owned, [](void* held) { delete static_cast<std::vector<T>*>(held); });
  return py::array_t<T>(static_cast<py::ssize_t>(owned->size()), owned->data(), owner);
}

py::array_t<char> to_numpy(mfgan::literals::Bytes&& bytes) {
  auto* owned = new literals::Bytes(std::move(bytes));
  py::capsule owner(owned, [](void* held) { delete static_cast<literals::Bytes*>(held); });
  return py::array_t<char>(static_cast<py::ssize_t>(owned->size()), owned->data(), owner);
}

// Four numbers a view, as it lies in memory.
py::array_t<uint32_t> to_numpy(std::vector<literals::View>&& views) {
  auto* owned = new std::vector<literals::View>(std::move(views));
  py::capsule owner(owned,
                    [](void* held) { delete static_cast<std::vector<literals::View>*>(held); });
  static_assert(sizeof(literals::View) == 4 * sizeof(uint32_t));
  return py::array_t<uint32_t>(static_cast<py::ssize_t>(4 * owned->size()),
                               reinterpret_cast<const uint32_t*>(owned->data()), owner);
}

py::dict to_dict(literals::Column&& column) {
  py::dict out;
  out["valid"] = to_numpy(std::move(column.valid));
  out["numbers"] = to_numpy(std::move(column.numbers));
  out["list_starts"] = to_numpy(std::move(column.list_starts));
  out["views"] = to_numpy(std::move(column.views));
  out["bytes"] = to_numpy(std::move(column.bytes));
  return out;
}

literals::Kind to_kind(const std::string& name) {
  if (name == "text") return literals::Kind::kText;
  if (name == "number") return literals::Kind::kNumber;
  if (name == "texts") return literals::Kind::kTexts;
  throw py::value_error("parse_literals: kind must be text, number or texts, got " + name);
}

py::dict parse_literals(const py::bytes& data,
                        const std::vector<std::pair<std::string, std::string>>& wanted) {
  std::vector<literals::Field> fields;
  for (const auto& [key, kind] : wanted) fields.push_back({key, to_kind(kind)});
  const std::string_view text(data);
  literals::Table table;
  {
    py::gil_scoped_release release;
    table = literals::parse(text, fields, kMaxReasons);
  }
  py::list columns, bad;
  for (auto& column : table.columns) columns.append(to_dict(std::move(column)));
  for (const auto& line : table.bad) bad.append(py::make_tuple(line.number, line.reason));
  py::dict out;
  out["columns"] = columns;
  out["lines"] = to_numpy(std::move(table.lines));
  out["line_count"] = table.line_count;
  out["bad_count"] = table.bad_count;
  out["bad"] = bad;
  return out;
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Host helpers of mfgan that take no tensors.";
  m.def("parse_literals", &parse_literals, py::arg("data"), py::arg("fields"),
        "Read lines of Python dictionaries into Arrow-like columns; see csrc/bind/literals.h.");
}
