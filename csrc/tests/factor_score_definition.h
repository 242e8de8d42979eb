// factor_score in double precision by its definition, for one made input.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

namespace mfgan::check {

enum ScoreArray {
  kQuery,
  kKey,
  kValue,
  kResidual,
  kPositionKey,
  kPositionValue,
  kOutWeight,
  kFf1Weight,
  kFf1Bias,
  kFf2Weight,
  kFf2Bias,
  kHeadWeight,
  kHeadBias,
  kNumScoreArrays
};

struct ScoreSizes {
  int factors = 2, rows = 9, dim = 16, heads = 2, width = 10, distances = 22, max_history = 20;
  int candidates = 3;

  std::array<size_t, kNumScoreArrays> of_arrays() const {
    const size_t table = rows * dim, places = distances * dim;
    const size_t d = dim, w = width;
    std::array<size_t, kNumScoreArrays> sizes = {table, table, table, table, places, places, d * d,
                                                 w * d, w,     d * w, d,     d,      1};
    for (size_t& size : sizes) size *= factors;
    return sizes;
  }
};

using ScoreArrays = std::array<std::vector<double>, kNumScoreArrays>;

struct ScoreIndices {
  std::vector<int32_t> bounds;
  std::vector<int64_t> history, candidates, positions;
};

// One factor's logit of one candidate after one position.
inline double score_by_definition(const ScoreSizes& n, const ScoreArrays& x, const ScoreIndices& at,
                                  int factor, int64_t position, int64_t candidate) {
  const int head_dim = n.dim / n.heads;
  const auto from = [&](int array, int64_t row, int64_t rows_of_factor, int64_t columns) {
    return x[array].data() + (factor * rows_of_factor + row) * columns;
  };
  const int64_t begin = *(std::upper_bound(at.bounds.begin(), at.bounds.end(), position) - 1);
  const int64_t history = std::min<int64_t>(position - begin + 1, n.max_history);
  std::vector<double> attended(n.dim, 0.0), hidden(n.dim), inner(n.width);
  for (int head = 0; head < n.heads; ++head) {
    std::vector<double> weights;
    double total = 0;
    const auto sum = [&](int table, int places, int64_t d, int column) {
      const int64_t row = d == 0 ? candidate : at.history[position - d + 1];
      return from(table, row, n.rows, n.dim)[column] + from(places, d, n.distances, n.dim)[column];
    };
    for (int64_t d = 0; d <= history; ++d) {
      double logit = 0;
      for (int i = head * head_dim; i < (head + 1) * head_dim; ++i) {
        logit += from(kQuery, candidate, n.rows, n.dim)[i] * sum(kKey, kPositionKey, d, i);
      }
      weights.push_back(std::exp(logit / std::sqrt(head_dim)));
      total += weights.back();
    }
    for (int64_t d = 0; d <= history; ++d) {
      for (int i = head * head_dim; i < (head + 1) * head_dim; ++i) {
        attended[i] += weights[d] / total * sum(kValue, kPositionValue, d, i);
      }
    }
  }
  double mean = 0, square = 0;
  for (int i = 0; i < n.dim; ++i) {
    hidden[i] = from(kResidual, candidate, n.rows, n.dim)[i];
    for (int j = 0; j < n.dim; ++j) {
      hidden[i] += from(kOutWeight, i, n.dim, n.dim)[j] * attended[j];
    }
    mean += hidden[i] / n.dim;
  }
  for (double h : hidden) square += (h - mean) * (h - mean) / n.dim;
  for (int i = 0; i < n.width; ++i) {
    inner[i] = from(kFf1Bias, 0, 1, n.width)[i];
    for (int j = 0; j < n.dim; ++j) {
      inner[i] +=
          from(kFf1Weight, i, n.width, n.dim)[j] * (hidden[j] - mean) / std::sqrt(square + 1e-5);
    }
  }
  double score = from(kHeadBias, 0, 1, 1)[0];
  for (int i = 0; i < n.dim; ++i) {
    double out = hidden[i] + from(kFf2Bias, 0, 1, n.dim)[i];
    for (int j = 0; j < n.width; ++j) {
      out += from(kFf2Weight, i, n.dim, n.width)[j] * std::max(inner[j], 0.0);
    }
    score += from(kHeadWeight, 0, 1, n.dim)[i] * out;
  }
  return score;
}

// (positions, candidates, factors)
inline std::vector<double> scores_by_definition(const ScoreSizes& n, const ScoreArrays& x,
                                                const ScoreIndices& at) {
  std::vector<double> scores;
  for (size_t i = 0; i < at.candidates.size(); ++i) {
    for (int factor = 0; factor < n.factors; ++factor) {
      scores.push_back(
          score_by_definition(n, x, at, factor, at.positions[i / n.candidates], at.candidates[i]));
    }
  }
  return scores;
}

}  // namespace mfgan::check
