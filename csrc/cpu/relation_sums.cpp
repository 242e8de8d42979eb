// What a history says for candidates by a sparse relation of items: the rows of the history's items
// are walked once for all candidates of a position, which a table finds by item.
#include <torch/csrc/stable/library.h>

#include <vector>

#include "cpu/dispatch.h"
#include "cpu/relation.h"

namespace mfgan::cpu {
namespace {

constexpr const char* kOp = "relation_sums";
constexpr int64_t kPositionsPerThread = 8;

// One position's candidates; `place` has for each item its first candidate, -1 for none, and is
// left as it was.
void sum_position(const Relation& relation, const Histories& histories, int64_t position,
                  const int64_t* candidates, int64_t num_candidates, int32_t* place, float* out) {
  std::fill_n(out, num_candidates * kSpans, 0.0f);
  for (int64_t c = 0; c < num_candidates; ++c)
    if (place[candidates[c]] < 0) place[candidates[c]] = static_cast<int32_t>(c);
  histories.walk(position, [&](int64_t span, int64_t row) {
    float* sums = out + span;
    for (int64_t i = relation.offsets[row]; i < relation.offsets[row + 1]; ++i) {
      const int32_t found = place[relation.columns[i]];
      if (found >= 0) sums[found * kSpans] += relation.values[i];
    }
  });
  for (int64_t c = 0; c < num_candidates; ++c) {
    const int64_t first = place[candidates[c]];
    if (first >= 0 && first != c) std::copy_n(out + first * kSpans, kSpans, out + c * kSpans);
  }
  for (int64_t c = 0; c < num_candidates; ++c) place[candidates[c]] = -1;
}

Tensor relation_sums(Tensor offsets, Tensor columns, Tensor values, Tensor items, Tensor cu_seqlens,
                     Tensor positions, Tensor candidates, int64_t max_history) {
  const Relation relation(kOp, offsets, columns, values);
  const Histories histories(kOp, items, cu_seqlens, positions, max_history, relation, values);
  check_array(kOp, "candidates", candidates, 2, ScalarType::Long);
  MFGAN_CHECK(candidates.size(0) == histories.count, kOp, ": candidates must be (", histories.count,
              ", num_candidates), got ", shape_of(candidates));
  const int64_t count = histories.count, wide = candidates.size(1);
  const int64_t* candidate = candidates.const_data_ptr<int64_t>();
  check_between(kOp, "candidates", candidate, count * wide, 0, relation.num_rows - 1);
  Tensor out = torch::stable::new_empty(values, {count, wide, kSpans});
  float* sums = out.mutable_data_ptr<float>();
  torch::stable::parallel_for(0, count, kPositionsPerThread, [&](int64_t first, int64_t last) {
    std::vector<int32_t> place(relation.num_rows, -1);
    for (int64_t p = first; p < last; ++p)
      sum_position(relation, histories, p, candidate + p * wide, wide, place.data(),
                   sums + p * wide * kSpans);
  });
  return out;
}

STABLE_TORCH_LIBRARY_IMPL(mfgan, CPU, m) { m.impl("relation_sums", TORCH_BOX(&relation_sums)); }

}  // namespace
}  // namespace mfgan::cpu
