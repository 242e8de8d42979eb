// The convolution's kernels against float64, for every kind of value: `convolution_check ORDER
// COPIES`. A chunk of tokens ends within a session.
#include "check.h"
#include "cuda/convolution_plan.cuh"

namespace mfgan::gpu {
namespace {

constexpr int kTaps = 11, kColumns = 16;
const std::vector<int32_t> kBounds = {0, 7, 7, 8, 150, 163};

struct Exact64 {
  std::vector<double> out, grad_x, grad_taps;
};

template <typename T>
Exact64 by_definition(const std::vector<T>& x, const std::vector<T>& taps,
                      const std::vector<T>& grad) {
  const auto value = [](T v) { return static_cast<double>(simt::to_float(v)); };
  Exact64 result;
  for (size_t i = 0; i < x.size(); ++i) {
    result.out.push_back(value(x[i]));
    result.grad_x.push_back(value(grad[i]));
  }
  result.grad_taps.assign(taps.size(), 0.0);
  for (size_t s = 0; s + 1 < kBounds.size(); ++s) {
    for (int t = kBounds[s]; t < kBounds[s + 1]; ++t) {
      for (int d = 0; d < kTaps && t - d >= kBounds[s]; ++d) {
        for (int c = 0; c < kColumns; ++c) {
          const int to = t * kColumns + c, from = (t - d) * kColumns + c, tap = d * kColumns + c;
          result.out[to] += value(taps[tap]) * value(x[from]);
          result.grad_x[from] += value(taps[tap]) * value(grad[to]);
          result.grad_taps[tap] += value(grad[to]) * value(x[from]);
        }
      }
    }
  }
  return result;
}

// `wide`: a few columns a thread, or one.
template <typename Value>
bool check(const char* name, bool wide, double allowed) {
  const int tokens = kBounds.back();
  const auto x = check::random_values<Value>(tokens * kColumns, 1),
             taps = check::random_values<Value>(kTaps * kColumns, 2),
             grad = check::random_values<Value>(tokens * kColumns, 3);
  std::vector<Value> out(x.size()), grad_x(x.size());
  std::vector<float> grad_taps(taps.size()), parts(num_chunks_of(tokens) * taps.size());

  ConvolutionParams p{};
  p.x = x.data();
  p.taps = taps.data();
  p.cu_seqlens = kBounds.data();
  p.out = out.data();
  p.total_tokens = tokens;
  p.num_sessions = static_cast<int>(kBounds.size()) - 1;
  p.num_taps = kTaps;
  p.width = kColumns;
  launch_convolve<Value, 1>(p, wide, nullptr);
  p.x = grad.data();
  p.out = grad_x.data();
  launch_convolve<Value, -1>(p, wide, nullptr);
  const TapGradParams g{x.data(),       grad.data(), p.cu_seqlens,
                        parts.data(),   tokens,      chunk_tokens_of(tokens),
                        p.num_sessions, kTaps,       kColumns};
  launch_tap_grads<Value>(g, grad_taps.data(), nullptr);

  const Exact64 exact = by_definition(x, taps, grad);
  std::printf("%s, %s\n", name, wide ? "wide" : "one by one");
  const bool right[] = {
      check::within("  out", check::worst_error(out, exact.out), allowed),
      check::within("  grad_x", check::worst_error(grad_x, exact.grad_x), allowed),
      // Kept in float32, whatever the values are.
      check::within("  grad_taps", check::worst_error(grad_taps, exact.grad_taps), 1e-4)};
  return right[0] && right[1] && right[2];
}

}  // namespace
}  // namespace mfgan::gpu

int main(int count, char** words) {
  using namespace mfgan::gpu;
  mfgan::check::set_schedule(count, words);
  bool right = true;
  for (const bool wide : {true, false}) {
    right &= check<float>("float32", wide, 1e-5);
    right &= check<simt::half>("float16", wide, 1e-2);
    right &= check<simt::bf16>("bfloat16", wide, 8e-2);
  }
  return right ? 0 : 1;
}
