// Scores of candidates after prefixes of packed sessions: what the CPU kernels need to know.
#pragma once

#include <cstdint>
#include <vector>

namespace mfgan::cpu {

// F factors, U table rows, D = num_heads * head_dim features, L distances, W inner features. The
// arrays are contiguous, in the shapes that mfgan/ops/factor_score.py gives.
template <typename T>
struct FactorScoreParams {
  int64_t num_factors = 0;
  int64_t num_rows = 0;
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  int64_t num_distances = 0;
  int64_t width = 0;
  int64_t num_candidates = 0;
  int64_t max_history = 0;

  const T *query = nullptr, *key = nullptr, *value = nullptr, *residual = nullptr;
  const T *position_key = nullptr, *position_value = nullptr;
  const T *out_weight = nullptr, *ff1_weight = nullptr, *ff1_bias = nullptr, *ff2_weight = nullptr,
          *ff2_bias = nullptr, *head_weight = nullptr, *head_bias = nullptr;
  const int64_t *history_rows = nullptr, *candidate_rows = nullptr, *positions = nullptr;

  // Bits below `drop_threshold` drop an element; 0 keeps them all (rng.h).
  uint32_t drop_threshold = 0;
  T keep_scale = 1;
  int64_t seed = 0;
  int64_t offset = 0;
  int64_t site = 0;

  int64_t dim() const { return num_heads * head_dim; }
};

// Neighbouring positions of one session, for a range of candidates. Either every candidate of one
// position is a block (the keys of a position are then added up once for all of them), or, where
// there are few candidates and the positions follow each other without a gap, every position of
// one candidate is: the terms of the distance are then a matrix product of their own, sheared.
struct ScoreSegment {
  int64_t first_position = 0;  // in ScorePlan::order
  int64_t num_positions = 0;
  int64_t first_candidate = 0;
  int64_t num_candidates = 0;
  int64_t session_begin = 0;
  int64_t first_key = 0;  // token of the first key that any of the positions sees
  int64_t num_keys = 0;
  bool sheared = false;

  int64_t num_rows() const { return num_positions * num_candidates; }
  // Rows of a block lie side by side.
  int64_t position_of(int64_t row) const {
    return sheared ? row % num_positions : row / num_candidates;
  }
  int64_t candidate_of(int64_t row) const {
    return first_candidate + (sheared ? row / num_positions : row % num_candidates);
  }
};

// Segments whose rows (position, candidate) go through the feed-forward network together.
struct ScoreGroup {
  int64_t first_segment = 0;
  int64_t last_segment = 0;
  int64_t num_rows = 0;
};

// The unit of work of one thread, and the unit over which gradients are summed: it follows from the
// shapes alone, never from the number of threads.
struct ScoreChunk {
  int64_t first_group = 0;
  int64_t last_group = 0;
  // Table rows that the chunk reads, ascending, and the index of each history token from
  // `first_token` on and of each candidate, in the order of the rows, among them.
  int64_t first_token = 0;
  std::vector<int64_t> rows;
  std::vector<int32_t> token_slots;
  std::vector<int32_t> candidate_slots;
};

struct ScorePlan {
  std::vector<int64_t> order;  // positions by token
  std::vector<ScoreSegment> segments;
  std::vector<ScoreGroup> groups;
  std::vector<ScoreChunk> chunks;
  int64_t most_rows = 0;  // of a group
  int64_t most_segment_keys = 0;
};

ScorePlan plan_scores(const int64_t* positions, int64_t num_positions, int64_t num_candidates,
                      const int32_t* cu_seqlens, int64_t num_sessions, int64_t max_history,
                      int64_t num_heads);
// Fills in what only gradients need.
void plan_gradients(ScorePlan& plan, int64_t num_candidates, int64_t num_table_rows,
                    const int64_t* history_rows, const int64_t* candidate_rows);

// Gradients of the floating inputs, in the shapes of the inputs; those of positions, weights and
// biases are zero to start with.
template <typename T>
struct FactorScoreGrads {
  T *query = nullptr, *key = nullptr, *value = nullptr, *residual = nullptr;
  T *position_key = nullptr, *position_value = nullptr;
  T *out_weight = nullptr, *ff1_weight = nullptr, *ff1_bias = nullptr, *ff2_weight = nullptr,
    *ff2_bias = nullptr, *head_weight = nullptr, *head_bias = nullptr;
};

// The kernels of one instruction set. Backward is done chunk by chunk of a factor: `backward` into
// sums of its own, then `add` of all chunks in order, after `clear_rows`.
template <typename T>
struct ScoreKernels {
  void (*forward)(const FactorScoreParams<T>& params, const ScorePlan& plan, int64_t chunk,
                  int64_t factor, T* out);
  // Elements that the sums of a chunk take.
  int64_t (*num_sums)(const FactorScoreParams<T>& params, const ScoreChunk& chunk);
  void (*backward)(const FactorScoreParams<T>& params, const ScorePlan& plan, int64_t chunk,
                   int64_t factor, const T* grad_out, T* sums);
  // Zeroes the gradients of one factor's tables, and adds to all gradients of a factor.
  void (*clear_rows)(const FactorScoreParams<T>& params, int64_t factor,
                     const FactorScoreGrads<T>& grads);
  void (*add)(const FactorScoreParams<T>& params, const ScoreChunk& chunk, int64_t factor,
              const T* sums, const FactorScoreGrads<T>& grads);
};

// Those for this machine.
template <typename T>
ScoreKernels<T> score_kernels();

}  // namespace mfgan::cpu
