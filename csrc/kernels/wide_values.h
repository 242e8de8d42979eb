// Neighbouring values that move as one.
#pragma once

namespace mfgan::gpu {

constexpr int kWidestBytes = 16;

template <typename Value, int kWidth>
struct alignas(sizeof(Value) * kWidth) WideValues {
  Value x[kWidth];
};

// How many values the widest load or store moves.
template <typename Value>
constexpr int kWidest = kWidestBytes / static_cast<int>(sizeof(Value));

}  // namespace mfgan::gpu
