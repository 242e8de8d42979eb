// From a tensor's dtype to the element type of a kernel, and work shared out among threads.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "checks.h"
#include "cpu/element.h"

namespace mfgan::cpu {

template <typename T>
struct Type {
  using type = T;
};

// Calls `run(Type<T>{})` with the kernel's element type of a floating dtype.
template <typename Run>
void with_element_type(ScalarType type, const Run& run) {
  switch (type) {
    case ScalarType::Double:
      return run(Type<double>{});
    case ScalarType::BFloat16:
      return run(Type<BFloat16>{});
    case ScalarType::Half:
      return run(Type<Half>{});
    default:
      return run(Type<float>{});
  }
}

// Runs tasks 0..num_tasks - 1, each once, handed out in order to whichever thread is free, on no
// more than `most_threads` threads: waking one costs some microseconds. Results must not depend on
// which thread ran a task.
template <typename Run>
void for_each_task(int64_t num_tasks, const Run& run, int64_t most_threads = INT64_MAX) {
  std::atomic<int64_t> next{0};
  const int64_t threads = std::min<int64_t>(torch::stable::get_num_threads(), most_threads);
  const int64_t workers = std::min(std::max<int64_t>(threads, 1), num_tasks);
  torch::stable::parallel_for(0, workers, 1, [&](int64_t first, int64_t last) {
    for (int64_t worker = first; worker < last; ++worker)
      for (int64_t task = next++; task < num_tasks; task = next++) run(task);
  });
}

}  // namespace mfgan::cpu
