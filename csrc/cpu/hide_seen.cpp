#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <vector>

#include "checks.h"
#include "cpu/dispatch.h"

namespace mfgan::cpu {
namespace {

constexpr const char* kOp = "hide_seen";
constexpr int64_t kRowsPerThread = 64;

void check_index(const char* name, const Tensor& x, int64_t size, const Tensor& like) {
  MFGAN_CHECK(x.dim() == 1 && (size < 0 || x.size(0) == size), kOp, ": ", name, " must be (",
              size < 0 ? "n" : std::to_string(size), ",), got ", shape_of(x));
  MFGAN_CHECK(x.scalar_type() == ScalarType::Long, kOp, ": ", name, " must be int64");
  MFGAN_CHECK(x.is_contiguous(), kOp, ": ", name, " must be contiguous");
  check_same_device(kOp, name, x, like);
}

// Column c of the scores is item c + 1; item 0 is none.
struct Seen {
  const int64_t* items;
  const int32_t* bounds;
  int64_t num_sessions;
  const int64_t* earlier;
  const int64_t* earlier_bounds;

  template <typename T>
  void hide(T* row, int64_t token, int64_t kept_item, T value) const {
    const int32_t* end =
        std::upper_bound(bounds, bounds + num_sessions + 1, static_cast<int32_t>(token));
    const int64_t session = end - bounds - 1;
    const T kept = kept_item > 0 ? row[kept_item - 1] : value;
    for (int64_t i = earlier_bounds[session]; i < earlier_bounds[session + 1]; ++i)
      if (earlier[i] > 0) row[earlier[i] - 1] = value;
    for (int64_t i = bounds[session]; i <= token; ++i)
      if (items[i] > 0) row[items[i] - 1] = value;
    if (kept_item > 0) row[kept_item - 1] = kept;
  }
};

void hide_seen(Tensor scores, Tensor tokens, Tensor kept, Tensor items, Tensor cu_seqlens,
               Tensor earlier, Tensor earlier_offsets, double value) {
  MFGAN_CHECK(scores.dim() == 2, kOp, ": scores must be (num_rows, num_items), got ",
              shape_of(scores));
  MFGAN_CHECK(is_floating(scores.scalar_type()), kOp,
              ": scores must be float32, float64, bfloat16 or float16");
  MFGAN_CHECK(scores.size(1) == 0 || scores.stride(1) == 1, kOp,
              ": rows of scores must be contiguous");
  check_cu_seqlens(kOp, cu_seqlens, scores);
  const int64_t rows = scores.size(0), columns = scores.size(1);
  const int64_t num_sessions = cu_seqlens.size(0) - 1;
  check_index("tokens", tokens, rows, scores);
  check_index("kept", kept, rows, scores);
  check_index("items", items, -1, scores);
  check_index("earlier", earlier, -1, scores);
  check_index("earlier_offsets", earlier_offsets, num_sessions + 1, scores);
  const Seen seen{items.const_data_ptr<int64_t>(), cu_seqlens.const_data_ptr<int32_t>(),
                  num_sessions, earlier.const_data_ptr<int64_t>(),
                  earlier_offsets.const_data_ptr<int64_t>()};
  const int64_t* token = tokens.const_data_ptr<int64_t>();
  const int64_t* keep = kept.const_data_ptr<int64_t>();
  check_rising(kOp, "cu_seqlens", seen.bounds, num_sessions, items.size(0));
  check_rising(kOp, "earlier_offsets", seen.earlier_bounds, num_sessions, earlier.size(0));
  check_between(kOp, "tokens", token, rows, 0, items.size(0) - 1);
  check_between(kOp, "kept", keep, rows, 0, columns);
  check_between(kOp, "items", seen.items, items.size(0), 0, columns);
  check_between(kOp, "earlier", seen.earlier, earlier.size(0), 0, columns);
  const int64_t stride = scores.stride(0);
  with_element_type(scores.scalar_type(), [&](auto type) {
    using T = typename decltype(type)::type;
    T* data = static_cast<T*>(scores.mutable_data_ptr());
    T low;
    store(&low, static_cast<Wide<T>>(value));
    torch::stable::parallel_for(0, rows, kRowsPerThread, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row)
        seen.hide(data + row * stride, token[row], keep[row], low);
    });
  });
}

STABLE_TORCH_LIBRARY_IMPL(mfgan, CPU, m) { m.impl("hide_seen", TORCH_BOX(&hide_seen)); }

}  // namespace
}  // namespace mfgan::cpu
