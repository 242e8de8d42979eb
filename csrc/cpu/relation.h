// A sparse relation of items by rows, and the histories whose items' rows are walked.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "checks.h"

namespace mfgan::cpu {

constexpr int64_t kSpans = 9;

// Distances 0 to 3 each have a sum; then 4 to 7, 8 to 15, 16 to 31, 32 to 63, and all beyond.
inline int64_t span_of(int64_t distance) {
  if (distance < 4) return distance;
  int64_t span = 3;
  for (int64_t rest = distance; rest >= 4; rest >>= 1) ++span;
  return std::min(span, kSpans - 1);
}

inline void check_array(const char* op, const char* name, const Tensor& x, int64_t dim,
                        ScalarType type) {
  MFGAN_CHECK(x.dim() == dim && x.scalar_type() == type && x.is_contiguous(), op, ": ", name,
              " must be contiguous, of its dtype and ", dim, "-d, got ", shape_of(x));
}

// All of its arrays are read as addresses, and so checked.
struct Relation {
  const int64_t* offsets;
  const int32_t* columns;
  const float* values;
  int64_t num_rows;

  Relation(const char* op, const Tensor& offsets_, const Tensor& columns_, const Tensor& values_) {
    check_array(op, "offsets", offsets_, 1, ScalarType::Long);
    check_array(op, "columns", columns_, 1, ScalarType::Int);
    check_array(op, "values", values_, 1, ScalarType::Float);
    MFGAN_CHECK(offsets_.size(0) >= 1 && values_.size(0) == columns_.size(0), op,
                ": values must be ", shape_of(columns_), ", got ", shape_of(values_));
    offsets = offsets_.const_data_ptr<int64_t>();
    columns = columns_.const_data_ptr<int32_t>();
    values = values_.const_data_ptr<float>();
    num_rows = offsets_.size(0) - 1;
    check_rising(op, "offsets", offsets, num_rows, columns_.size(0));
    check_between(op, "columns", columns, columns_.size(0), 0, num_rows - 1);
  }
};

// Histories: a session's tokens up to and including each position.
struct Histories {
  const int64_t* items;
  const int32_t* bounds;
  int64_t num_sessions;
  const int64_t* positions;
  int64_t count;
  int64_t max_history;

  Histories(const char* op, const Tensor& items_, const Tensor& cu_seqlens,
            const Tensor& positions_, int64_t max_history_, const Relation& relation,
            const Tensor& like)
      : max_history(max_history_) {
    check_array(op, "items", items_, 1, ScalarType::Long);
    check_array(op, "positions", positions_, 1, ScalarType::Long);
    check_cu_seqlens(op, cu_seqlens, like);
    items = items_.const_data_ptr<int64_t>();
    bounds = cu_seqlens.const_data_ptr<int32_t>();
    num_sessions = cu_seqlens.size(0) - 1;
    positions = positions_.const_data_ptr<int64_t>();
    count = positions_.size(0);
    check_rising(op, "cu_seqlens", bounds, num_sessions, items_.size(0));
    check_between(op, "items", items, items_.size(0), 0, relation.num_rows - 1);
    check_between(op, "positions", positions, count, 0, items_.size(0) - 1);
  }

  // visit(span, row of the relation) for each item of a history, the last one first.
  template <typename Visit>
  void walk(int64_t place, Visit&& visit) const {
    const int64_t position = positions[place];
    const int32_t* end =
        std::upper_bound(bounds, bounds + num_sessions + 1, static_cast<int32_t>(position));
    const int64_t start = std::max<int64_t>(*(end - 1), position - max_history + 1);
    for (int64_t token = position; token >= start; --token)
      visit(span_of(position - token), items[token]);
  }
};

}  // namespace mfgan::cpu
