// What a history says for every item of the catalogue by a sparse relation: only the entries that
// its items have are touched, each once. The other way about, what numbers of all items say for
// the spans of the history.
#include <torch/csrc/stable/library.h>

#include "cpu/dispatch.h"
#include "cpu/relation.h"

namespace mfgan::cpu {
namespace {

constexpr int64_t kRowsPerThread = 8;

// Rows of (num_rows, num_items) float32, column c being item c + 1.
void check_rows(const char* op, const char* name, const Tensor& x, const Relation& relation,
                const Histories& histories) {
  MFGAN_CHECK(x.dim() == 2 && x.scalar_type() == ScalarType::Float &&
                  x.size(0) == histories.count && x.size(1) == relation.num_rows - 1,
              op, ": ", name, " must be float32 (", histories.count, ", ", relation.num_rows - 1,
              "), got ", shape_of(x));
  MFGAN_CHECK(x.size(1) == 0 || x.stride(1) == 1, op, ": rows of ", name, " must be contiguous");
}

void add_relation_scores(Tensor scores, Tensor offsets, Tensor columns, Tensor values, Tensor items,
                         Tensor cu_seqlens, Tensor positions, Tensor weight, int64_t max_history) {
  constexpr const char* kOp = "add_relation_scores";
  const Relation relation(kOp, offsets, columns, values);
  const Histories histories(kOp, items, cu_seqlens, positions, max_history, relation, scores);
  check_rows(kOp, "scores", scores, relation, histories);
  check_array(kOp, "weight", weight, 1, ScalarType::Float);
  MFGAN_CHECK(weight.size(0) == kSpans, kOp, ": weight must be (9,), got ", shape_of(weight));
  const float* by_span = weight.const_data_ptr<float>();
  float* data = scores.mutable_data_ptr<float>();
  const int64_t stride = scores.stride(0);
  torch::stable::parallel_for(0, histories.count, kRowsPerThread, [&](int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p) {
      float* of_item = data + p * stride - 1;
      histories.walk(p, [&](int64_t span, int64_t row) {
        const float scale = by_span[span];
        if (scale == 0) return;
        for (int64_t i = relation.offsets[row]; i < relation.offsets[row + 1]; ++i)
          if (relation.columns[i] > 0) of_item[relation.columns[i]] += scale * relation.values[i];
      });
    }
  });
}

Tensor relation_projections(Tensor numbers, Tensor offsets, Tensor columns, Tensor values,
                            Tensor items, Tensor cu_seqlens, Tensor positions,
                            int64_t max_history) {
  constexpr const char* kOp = "relation_projections";
  const Relation relation(kOp, offsets, columns, values);
  const Histories histories(kOp, items, cu_seqlens, positions, max_history, relation, numbers);
  check_rows(kOp, "numbers", numbers, relation, histories);
  Tensor out = torch::stable::new_empty(values, {histories.count, kSpans});
  float* found = out.mutable_data_ptr<float>();
  const float* data = numbers.const_data_ptr<float>();
  const int64_t stride = numbers.stride(0);
  torch::stable::parallel_for(0, histories.count, kRowsPerThread, [&](int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p) {
      const float* of_item = data + p * stride - 1;
      float* by_span = found + p * kSpans;
      std::fill_n(by_span, kSpans, 0.0f);
      histories.walk(p, [&](int64_t span, int64_t row) {
        float sum = 0;
        for (int64_t i = relation.offsets[row]; i < relation.offsets[row + 1]; ++i)
          if (relation.columns[i] > 0) sum += of_item[relation.columns[i]] * relation.values[i];
        by_span[span] += sum;
      });
    }
  });
  return out;
}

STABLE_TORCH_LIBRARY_IMPL(mfgan, CPU, m) {
  m.impl("add_relation_scores", TORCH_BOX(&add_relation_scores));
  m.impl("relation_projections", TORCH_BOX(&relation_projections));
}

}  // namespace
}  // namespace mfgan::cpu
