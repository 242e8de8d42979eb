// What the checks of the CPU kernels without torch share: made input, and a comparison.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "cpu/element.h"
#include "rng.h"

namespace mfgan::cpu::check {

using Doubles = std::vector<double>;

constexpr int64_t kHeads = 2;
constexpr double kDropout = 0.25, kKeepScale = 1 / (1 - kDropout);
constexpr int64_t kSeed = 11, kOffset = 12, kSite = 13;

inline bool keeps_at(int64_t site, int64_t row, int64_t column) {
  return keeps(row_key(kSeed, kOffset, site, row), static_cast<uint32_t>(column),
               drop_threshold(kDropout));
}

template <typename T>
std::vector<T> made(size_t count, unsigned seed, double size = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0, size);
  std::vector<T> values(count);
  for (T& x : values) store(&x, static_cast<Wide<T>>(normal(generator)));
  return values;
}

template <typename T>
double value(T x) {
  return static_cast<double>(load(x));
}

// False where the worst error, over the largest exact value, is beyond what is allowed.
template <typename T>
bool close(const char* kind, const char* what, const std::vector<T>& actual, const Doubles& exact,
           double allowed) {
  double worst = 0, most = 1e-300;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double error = std::fabs(value(actual[i]) - exact[i]);
    worst = error <= worst ? worst : (std::isnan(error) ? INFINITY : error);
    most = std::max(most, std::fabs(exact[i]));
  }
  std::printf("%-10s %-24s error %.3g, allowed %.3g\n", kind, what, worst / most, allowed);
  return actual.size() == exact.size() && worst / most <= allowed;
}

bool check_scores();  // cpu_check_scores.cpp

}  // namespace mfgan::cpu::check
