#include "cpu/dense.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "cpu/dispatch.h"
#include "dense_checks.h"
#include "rng.h"

namespace mfgan::cpu {
namespace {

constexpr int64_t kProductsPerThread = 1 << 19;
// Sums over rows are kept for slices of rows, whose number follows from the size alone: however
// many threads there are, the same sums are added in the same order.
constexpr int64_t kRowsPerSlice = 4 * kDensePanel;
constexpr int64_t kMostSlices = 32;

int64_t padded_width(int64_t n) { return (n + kDensePadding - 1) / kDensePadding * kDensePadding; }

template <typename E>
const E* data_of(const Tensor& x) {
  return static_cast<const E*>(x.const_data_ptr());
}

std::optional<Tensor> contiguous(const std::optional<Tensor>& x) {
  if (!x) return x;
  return torch::stable::contiguous(*x);
}

DenseInputs contiguous(const DenseInputs& in) {
  return {torch::stable::contiguous(in.x),
          torch::stable::contiguous(in.weight),
          contiguous(in.bias),
          contiguous(in.norm_weight),
          contiguous(in.norm_bias),
          in.rng};
}

template <typename E>
std::vector<Wide<E>> widened(const std::optional<Tensor>& x, int64_t size, Wide<E> otherwise) {
  std::vector<Wide<E>> wide(size, otherwise);
  if (x)
    for (int64_t i = 0; i < size; ++i) wide[i] = load(data_of<E>(*x)[i]);
  return wide;
}

// The weight and bias with the norm's folded in, laid out for one of the passes.
template <typename E>
struct Folded {
  using T = Wide<E>;
  std::vector<T> weight, bias, scale, shift;

  Folded(const DenseInputs& in, bool transposed) {
    const int64_t num_in = in.x.size(1), num_out = in.weight.size(0);
    const int64_t in_stride = padded_width(num_in), out_stride = padded_width(num_out);
    scale = widened<E>(in.norm_weight, num_in, 1);
    shift = widened<E>(in.norm_bias, num_in, 0);
    bias = widened<E>(in.bias, num_out, 0);
    bias.resize(out_stride, 0);
    weight.assign(transposed ? num_in * out_stride : num_out * in_stride, 0);
    const E* from = data_of<E>(in.weight);
    for (int64_t n = 0; n < num_out; ++n) {
      T* to = transposed ? weight.data() + n : weight.data() + n * in_stride;
      const int64_t step = transposed ? out_stride : 1;
      T sum = 0;
      for (int64_t k = 0; k < num_in; ++k) {
        const T w = load(from[n * num_in + k]);
        to[k * step] = w * scale[k];
        sum += w * shift[k];
      }
      bias[n] += sum;
    }
  }
};

template <typename E>
DenseParams<E> params_of(const DenseInputs& in, const Folded<E>& folded, double eps,
                         int64_t activation, double dropout_p, int64_t site) {
  DenseParams<E> p;
  p.x = data_of<E>(in.x);
  p.weight = folded.weight.data();
  p.bias = folded.bias.data();
  p.num_rows = in.x.size(0);
  p.num_in = in.x.size(1);
  p.num_out = in.weight.size(0);
  p.in_stride = padded_width(p.num_in);
  p.out_stride = padded_width(p.num_out);
  p.norm = in.norm_weight.has_value();
  p.centred = in.norm_bias.has_value();
  p.eps = eps;
  p.activation = static_cast<Activation>(activation);
  if (in.rng) {
    p.drop_threshold = drop_threshold(dropout_p);
    p.keep_scale = 1 / (1 - dropout_p);
    p.seed = in.rng->const_data_ptr<int64_t>()[0];
    p.offset = in.rng->const_data_ptr<int64_t>()[1];
  }
  p.site = site;
  return p;
}

std::tuple<Tensor, Tensor> dense(Tensor x, Tensor weight, std::optional<Tensor> bias,
                                 std::optional<Tensor> norm_weight, std::optional<Tensor> norm_bias,
                                 std::optional<Tensor> residual, std::optional<Tensor> rng,
                                 double eps, int64_t activation, double dropout_p, int64_t site) {
  const char* op = "dense";
  const DenseInputs given{x, weight, bias, norm_weight, norm_bias, rng};
  check_dense(op, given, eps, activation, dropout_p);
  if (residual) check_dense_rows(op, "residual", *residual, given);
  const DenseInputs in = contiguous(given);
  const std::optional<Tensor> add = contiguous(residual);
  const int64_t rows = x.size(0), num_out = weight.size(0);
  Tensor out = torch::stable::new_empty(x, {rows, num_out});
  Tensor before = torch::stable::new_empty(x, {activation ? rows : 0, num_out});
  const int64_t panels = (rows + kDensePanel - 1) / kDensePanel;
  const int64_t grain = std::max<int64_t>(1, kProductsPerThread / (kDensePanel * weight.numel()));
  with_element_type(x.scalar_type(), [&](auto type) {
    using E = typename decltype(type)::type;
    const Folded<E> folded(in, true);
    DenseParams<E> p = params_of<E>(in, folded, eps, activation, dropout_p, site);
    p.residual = add ? data_of<E>(*add) : nullptr;
    p.out = static_cast<E*>(out.mutable_data_ptr());
    p.before = activation ? static_cast<E*>(before.mutable_data_ptr()) : nullptr;
    torch::stable::parallel_for(
        0, panels, grain, [&](int64_t first, int64_t last) { dense_forward<E>(p, first, last); });
  });
  return {out, before};
}

// Adds the slices' sums up, in their order, into the first one's place.
template <typename T>
void add_slices(std::vector<T>& sums, int64_t num_slices, int64_t size) {
  torch::stable::parallel_for(0, size, kProductsPerThread / kMostSlices,
                              [&](int64_t first, int64_t last) {
                                for (int64_t s = 1; s < num_slices; ++s)
                                  for (int64_t i = first; i < last; ++i)
                                    sums[i] += sums[s * size + i];
                              });
}

// From the gradients of the folded weight and bias to those of what was folded.
template <typename E>
void unfold(const DenseInputs& in, const Folded<E>& folded, const Wide<E>* of_weight,
            const Wide<E>* of_bias, Tensor& grad_weight, Tensor& grad_bias, Tensor& grad_scale,
            Tensor& grad_shift) {
  using T = Wide<E>;
  const int64_t num_in = in.x.size(1), num_out = in.weight.size(0);
  const int64_t in_stride = padded_width(num_in);
  const E* weight = data_of<E>(in.weight);
  E* to = static_cast<E*>(grad_weight.mutable_data_ptr());
  std::vector<T> scale(num_in, 0), shift(num_in, 0);
  for (int64_t n = 0; n < num_out; ++n) {
    for (int64_t k = 0; k < num_in; ++k) {
      const T g = of_weight[n * in_stride + k], w = load(weight[n * num_in + k]);
      store(to + n * num_in + k, g * folded.scale[k] + of_bias[n] * folded.shift[k]);
      scale[k] += w * g;
      shift[k] += w * of_bias[n];
    }
  }
  const auto keep = [](const T* from, Tensor& into) {
    E* at = static_cast<E*>(into.mutable_data_ptr());
    for (int64_t i = 0; i < into.numel(); ++i) store(at + i, from[i]);
  };
  keep(of_bias, grad_bias);
  keep(scale.data(), grad_scale);
  keep(shift.data(), grad_shift);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> dense_backward_op(
    Tensor grad_out, Tensor x, Tensor weight, std::optional<Tensor> bias,
    std::optional<Tensor> norm_weight, std::optional<Tensor> norm_bias, Tensor before,
    std::optional<Tensor> rng, double eps, int64_t activation, double dropout_p, int64_t site) {
  const char* op = "dense_backward";
  const DenseInputs given{x, weight, bias, norm_weight, norm_bias, rng};
  check_dense(op, given, eps, activation, dropout_p);
  check_dense_rows(op, "grad_out", grad_out, given);
  if (activation) check_dense_rows(op, "before", before, given);
  const DenseInputs in = contiguous(given);
  const Tensor grads = torch::stable::contiguous(grad_out);
  const Tensor held = torch::stable::contiguous(before);
  const int64_t rows = x.size(0), num_in = x.size(1), num_out = weight.size(0);
  Tensor grad_x = torch::stable::new_empty(x, {rows, num_in});
  Tensor grad_weight = torch::stable::new_empty(x, {num_out, num_in});
  Tensor grad_bias = torch::stable::new_empty(x, {bias ? num_out : 0});
  Tensor grad_scale = torch::stable::new_empty(x, {norm_weight ? num_in : 0});
  Tensor grad_shift = torch::stable::new_empty(x, {norm_bias ? num_in : 0});
  const int64_t slices = std::clamp<int64_t>(rows / kRowsPerSlice, 1, kMostSlices);
  const int64_t panels = (rows + kDensePanel - 1) / kDensePanel;
  with_element_type(x.scalar_type(), [&](auto type) {
    using E = typename decltype(type)::type;
    using T = Wide<E>;
    const Folded<E> folded(in, false);
    DenseParams<E> p = params_of<E>(in, folded, eps, activation, dropout_p, site);
    p.before = activation ? const_cast<E*>(data_of<E>(held)) : nullptr;
    const int64_t weights = num_out * p.in_stride, size = weights + p.out_stride;
    std::vector<T> sums(slices * size, 0);
    E* to = static_cast<E*>(grad_x.mutable_data_ptr());
    for_each_task(slices, [&](int64_t slice) {
      T* sum = sums.data() + slice * size;
      const int64_t first = slice * panels / slices * kDensePanel;
      const int64_t last = (slice + 1) * panels / slices * kDensePanel;
      dense_backward<E>(p, data_of<E>(grads), to, sum, sum + weights, first, std::min(last, rows));
    });
    add_slices(sums, slices, size);
    unfold<E>(in, folded, sums.data(), sums.data() + weights, grad_weight, grad_bias, grad_scale,
              grad_shift);
  });
  return {grad_x, grad_weight, grad_bias, grad_scale, grad_shift};
}

STABLE_TORCH_LIBRARY_IMPL(mfgan, CPU, m) {
  m.impl("dense", TORCH_BOX(&dense));
  m.impl("dense_backward", TORCH_BOX(&dense_backward_op));
}

}  // namespace
}  // namespace mfgan::cpu
