// The softmax of every row of a matrix, in place, and the log-probabilities of a few columns.
#pragma once

#include <cstdint>

#include "cpu/element.h"

namespace mfgan::cpu {

// Logits (num_rows, num_columns), rows `stride` apart; choices (num_rows, num_choices) are columns.
template <typename T>
struct SoftmaxChoices {
  T* logits;
  int64_t stride;
  int64_t num_columns;
  const int64_t* choices;
  int64_t num_choices;
  Wide<T>* log_probs;  // as choices
  Wide<T>* entropy;    // (num_rows,)
};

template <typename T>
void softmax_choices_of_rows(const SoftmaxChoices<T>& p, int64_t first_row, int64_t last_row);

}  // namespace mfgan::cpu
