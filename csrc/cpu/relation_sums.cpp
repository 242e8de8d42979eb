// What a history says for candidates by a sparse relation of items: the rows of the history's items
// are walked once for all candidates of a position, which a table finds by item.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <vector>

#include "checks.h"
#include "cpu/dispatch.h"

namespace mfgan::cpu {
namespace {

constexpr const char* kOp = "relation_sums";
constexpr int64_t kPositionsPerThread = 8;
constexpr int64_t kSpans = 9;

// Distances 0 to 3 each have a sum; then 4 to 7, 8 to 15, 16 to 31, 32 to 63, and all beyond.
int64_t span_of(int64_t distance) {
  if (distance < 4) return distance;
  int64_t span = 3;
  for (int64_t rest = distance; rest >= 4; rest >>= 1) ++span;
  return std::min(span, kSpans - 1);
}

void check_array(const char* name, const Tensor& x, int64_t dim, ScalarType type) {
  MFGAN_CHECK(x.dim() == dim && x.scalar_type() == type && x.is_contiguous(), kOp, ": ", name,
              " must be contiguous, of its dtype and ", dim, "-d, got ", shape_of(x));
}

struct Relation {
  const int64_t* offsets;
  const int32_t* columns;
  const float* values;
};

struct Sessions {
  const int64_t* items;
  const int32_t* bounds;
  int64_t num_sessions;

  int64_t start_of(int64_t token) const {
    const int32_t* end =
        std::upper_bound(bounds, bounds + num_sessions + 1, static_cast<int32_t>(token));
    return *(end - 1);
  }
};

// One position's candidates; `place` has for each item its first candidate, -1 for none, and is
// left as it was.
void sum_position(const Relation& relation, const Sessions& sessions, int64_t position,
                  int64_t max_history, const int64_t* candidates, int64_t num_candidates,
                  int32_t* place, float* out) {
  std::fill_n(out, num_candidates * kSpans, 0.0f);
  for (int64_t c = 0; c < num_candidates; ++c)
    if (place[candidates[c]] < 0) place[candidates[c]] = static_cast<int32_t>(c);
  const int64_t start = std::max(sessions.start_of(position), position - max_history + 1);
  for (int64_t token = position; token >= start; --token) {
    const int64_t row = sessions.items[token];
    float* sums = out + span_of(position - token);
    for (int64_t i = relation.offsets[row]; i < relation.offsets[row + 1]; ++i) {
      const int32_t found = place[relation.columns[i]];
      if (found >= 0) sums[found * kSpans] += relation.values[i];
    }
  }
  for (int64_t c = 0; c < num_candidates; ++c) {
    const int64_t first = place[candidates[c]];
    if (first >= 0 && first != c) std::copy_n(out + first * kSpans, kSpans, out + c * kSpans);
  }
  for (int64_t c = 0; c < num_candidates; ++c) place[candidates[c]] = -1;
}

Tensor relation_sums(Tensor offsets, Tensor columns, Tensor values, Tensor items, Tensor cu_seqlens,
                     Tensor positions, Tensor candidates, int64_t max_history) {
  check_array("offsets", offsets, 1, ScalarType::Long);
  check_array("columns", columns, 1, ScalarType::Int);
  check_array("values", values, 1, ScalarType::Float);
  check_array("items", items, 1, ScalarType::Long);
  check_array("positions", positions, 1, ScalarType::Long);
  check_array("candidates", candidates, 2, ScalarType::Long);
  check_cu_seqlens(kOp, cu_seqlens, values);
  MFGAN_CHECK(offsets.size(0) >= 1 && values.size(0) == columns.size(0), kOp, ": values must be ",
              shape_of(columns), ", got ", shape_of(values));
  MFGAN_CHECK(candidates.size(0) == positions.size(0), kOp, ": candidates must be (",
              positions.size(0), ", num_candidates), got ", shape_of(candidates));
  const int64_t rows = offsets.size(0) - 1, tokens = items.size(0);
  const Relation relation{offsets.const_data_ptr<int64_t>(), columns.const_data_ptr<int32_t>(),
                          values.const_data_ptr<float>()};
  const Sessions sessions{items.const_data_ptr<int64_t>(), cu_seqlens.const_data_ptr<int32_t>(),
                          cu_seqlens.size(0) - 1};
  // All of these are read as addresses.
  check_rising(kOp, "offsets", relation.offsets, rows, columns.size(0));
  check_rising(kOp, "cu_seqlens", sessions.bounds, sessions.num_sessions, tokens);
  const int64_t count = positions.size(0), wide = candidates.size(1);
  const int64_t* position = positions.const_data_ptr<int64_t>();
  const int64_t* candidate = candidates.const_data_ptr<int64_t>();
  check_between(kOp, "columns", relation.columns, columns.size(0), 0, rows - 1);
  check_between(kOp, "items", sessions.items, tokens, 0, rows - 1);
  check_between(kOp, "positions", position, count, 0, tokens - 1);
  check_between(kOp, "candidates", candidate, count * wide, 0, rows - 1);
  Tensor out = torch::stable::new_empty(values, {count, wide, kSpans});
  float* sums = out.mutable_data_ptr<float>();
  torch::stable::parallel_for(0, count, kPositionsPerThread, [&](int64_t first, int64_t last) {
    std::vector<int32_t> place(rows, -1);
    for (int64_t p = first; p < last; ++p)
      sum_position(relation, sessions, position[p], max_history, candidate + p * wide, wide,
                   place.data(), sums + p * wide * kSpans);
  });
  return out;
}

STABLE_TORCH_LIBRARY_IMPL(mfgan, CPU, m) { m.impl("relation_sums", TORCH_BOX(&relation_sums)); }

}  // namespace
}  // namespace mfgan::cpu
