// What the checks of the emulated kernels share: a schedule from the command line, random input,
// and a comparison that counts every value.
#pragma once

#define SIMT_IMPLEMENTATION
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "simt/simt.h"

namespace mfgan::check {

inline void set_schedule(int count, char** words) {
  const std::string order = count > 1 ? words[1] : "forward",
                    copies = count > 2 ? words[2] : "lazy";
  simt::Settings& settings = simt::settings();
  settings.order = order == "reverse"  ? simt::Order::reverse
                   : order == "skewed" ? simt::Order::skewed
                                       : simt::Order::forward;
  settings.copies = copies == "eager" ? simt::CopyTime::eager : simt::CopyTime::lazy;
  settings.seed = 7;
  settings.os_threads = 1;
}

template <typename T>
std::vector<T> random_values(size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<T> values(count);
  for (T& x : values) x = simt::from_float<T>(normal(generator));
  return values;
}

// The worst distance of `actual` from `exact`; a value that is no number is infinitely far.
template <typename T>
double worst_error(const std::vector<T>& actual, const std::vector<double>& exact) {
  double worst = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double error = std::fabs(static_cast<double>(simt::to_float(actual[i])) - exact[i]);
    worst = error <= worst ? worst : (std::isnan(error) ? INFINITY : error);
  }
  return worst;
}

// Prints one line; false where the error is beyond `allowed`.
inline bool within(const char* what, double worst, double allowed) {
  std::printf("%-28s worst error %.3g, allowed %.3g\n", what, worst, allowed);
  return worst <= allowed;
}

}  // namespace mfgan::check
