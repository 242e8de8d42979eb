// How a warp of factor_score comes to its operands: rows of the per-item tables, found by index,
// with the rows of their distances added.
//
// A warp works for one position and at most 16 of its candidates at a time. They see the same
// tokens at the same distances, so `key[row_d] + position_key[d]` is one tile for all of them, and
// the attention over it is the plain one.
#pragma once

#include <type_traits>

#include "kernels/factor_score_units.cuh"
#include "rng.h"

namespace mfgan::gpu {

// Distances in a tile: two stages of keys and values for every warp of a block fit side by side,
// and a tile of logits into its registers.
template <typename Arithmetic, int kDim>
constexpr int kScoreColumns = sizeof(typename Arithmetic::Value) == 4 || kDim > 64 ? 16 : 32;

// Parts of rows that a lane has under way: wide heads leave fewer registers for them.
template <int kDim>
constexpr int kPartsAtOnce = kDim > 64 ? 1 : 4;

// Starts to bring `kRows` rows of a table, one head of them, to shared memory: lane i names row i,
// a negative number a row of zeros. The caller commits and waits.
template <typename Arithmetic, int kDim, int kRows>
__device__ __forceinline__ void gather_rows(typename Arithmetic::Value* tile,
                                            const typename Arithmetic::Value* table, int my_row,
                                            const ScoreParams& p) {
  using Value = typename Arithmetic::Value;
  constexpr int kStride = kRowStride<Arithmetic, kDim>;
  constexpr int kWide = 16 / static_cast<int>(sizeof(Value)), kParts = kDim / kWide;
  const int lane = lane_index();
  if (p.aligned && p.head_dim % kWide == 0) {
    // A host compiler takes no notice of the pragma.
    [[maybe_unused]] constexpr int kUnrolled = kPartsAtOnce<kDim>;
#pragma unroll kUnrolled
    for (int step = 0; step < kRows * kParts / 32; ++step) {
      const int i = step * 32 + lane, column = i % kParts * kWide;
      const int row = __shfl_sync(kWholeWarp, my_row, i / kParts);
      const bool valid = row >= 0 && column < p.head_dim;
      const Value* from = table + (valid ? static_cast<int64_t>(row) * p.dim + column : 0);
      simt::cp_async16(tile + i / kParts * kStride + column, from, valid);
    }
  } else {
    for (int step = 0; step < kRows * kDim / 32; ++step) {
      const int i = step * 32 + lane, column = i % kDim;
      const int row = __shfl_sync(kWholeWarp, my_row, i / kDim);
      const bool valid = row >= 0 && column < p.head_dim;
      tile[i / kDim * kStride + column] =
          valid ? table[static_cast<int64_t>(row) * p.dim + column] : simt::from_float<Value>(0.0f);
    }
  }
}

template <typename Value>
__device__ __forceinline__ Value sum_of(Value a, Value b) {
  return simt::from_float<Value>(simt::to_float(a) + simt::to_float(b));
}

template <typename Value, int kWidth>
struct alignas(sizeof(Value) * kWidth) Values {
  Value x[kWidth];
};

// Calls `body(row, column)` for this lane's share of kWidth-wide parts of a tile.
template <int kDim, int kRows, int kWidth, typename Body>
__device__ __forceinline__ void for_each_part(Body body) {
  constexpr int kParts = kDim / kWidth;
  [[maybe_unused]] constexpr int kUnrolled = kPartsAtOnce<kDim>;
#pragma unroll kUnrolled
  for (int step = 0; step < kRows * kParts / 32; ++step) {
    const int i = step * 32 + lane_index();
    body(i / kParts, i % kParts * kWidth);
  }
}

// Calls `body(width)` with the widest part that the tables' rows can be read by.
template <typename Value, typename Body>
__device__ __forceinline__ void with_part_width(const ScoreParams& p, Body body) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(Value));
  if (p.aligned && p.head_dim % kWide == 0) {
    body(std::integral_constant<int, kWide>());
  } else {
    body(std::integral_constant<int, 1>());
  }
}

// Adds a row of `table` to each of `kRows` rows of a tile: row i gets distance `first + i`, or none
// where that is past `last`.
template <typename Arithmetic, int kDim, int kRows>
__device__ __forceinline__ void add_positions(typename Arithmetic::Value* tile,
                                              const typename Arithmetic::Value* table, int first,
                                              int last, const ScoreParams& p) {
  using Value = typename Arithmetic::Value;
  with_part_width<Value>(p, [&](auto width) {
    using Part = Values<Value, decltype(width)::value>;
    for_each_part<kDim, kRows, decltype(width)::value>([&](int row, int column) {
      if (first + row > last || column >= p.head_dim) return;
      const int64_t from = static_cast<int64_t>(first + row) * p.dim + column;
      auto* to = reinterpret_cast<Part*>(tile + row * kRowStride<Arithmetic, kDim> + column);
      const Part add = *reinterpret_cast<const Part*>(table + from);
      Part sum = *to;
#pragma unroll
      for (int j = 0; j < decltype(width)::value; ++j) sum.x[j] = sum_of(sum.x[j], add.x[j]);
      *to = sum;
    });
  });
}

// Fills a tile with sums of an item's row and a distance's: lane i names those of row i, a negative
// row for zeros.
template <typename Arithmetic, int kDim>
__device__ __forceinline__ void build_sums(typename Arithmetic::Value* tile,
                                           const typename Arithmetic::Value* table,
                                           const typename Arithmetic::Value* positions, int my_row,
                                           int my_distance, const ScoreParams& p) {
  using Value = typename Arithmetic::Value;
  with_part_width<Value>(p, [&](auto width) {
    using Part = Values<Value, decltype(width)::value>;
    for_each_part<kDim, kWarpRows, decltype(width)::value>([&](int row, int column) {
      const int64_t item = __shfl_sync(kWholeWarp, my_row, row);
      const int64_t distance = __shfl_sync(kWholeWarp, my_distance, row);
      Part sum;
#pragma unroll
      for (int j = 0; j < decltype(width)::value; ++j) sum.x[j] = simt::from_float<Value>(0.0f);
      if (item >= 0 && column < p.head_dim) {
        const Part own = *reinterpret_cast<const Part*>(table + item * p.dim + column);
        const Part add = *reinterpret_cast<const Part*>(positions + distance * p.dim + column);
#pragma unroll
        for (int j = 0; j < decltype(width)::value; ++j) sum.x[j] = sum_of(own.x[j], add.x[j]);
      }
      *reinterpret_cast<Part*>(tile + row * kRowStride<Arithmetic, kDim> + column) = sum;
    });
  });
}

// One head of one factor of the six tables, where its first row starts.
template <typename Value>
struct HeadTables {
  const Value *query, *key, *value, *position_key, *position_value;

  __device__ __forceinline__ HeadTables(const ScoreParams& p, int factor, int head) {
    const int64_t column = static_cast<int64_t>(head) * p.head_dim;
    const int64_t rows = factor * p.num_rows * p.dim + column;
    const int64_t distances = static_cast<int64_t>(factor) * p.num_distances * p.dim + column;
    query = static_cast<const Value*>(p.query) + rows;
    key = static_cast<const Value*>(p.key) + rows;
    value = static_cast<const Value*>(p.value) + rows;
    position_key = static_cast<const Value*>(p.position_key) + distances;
    position_value = static_cast<const Value*>(p.position_value) + distances;
  }
};

// Calls `body(first, keys, values)` for tiles of kScoreColumns distances from `first` on, nearest
// first; rows past the history are zero. `stages` holds two pairs of tiles, the next one is on its
// way while the body works. The whole warp comes.
template <typename Arithmetic, int kDim, typename Body>
__device__ __forceinline__ void walk_history(const ScoreParams& p, const ScoreUnit& unit,
                                             const HeadTables<typename Arithmetic::Value>& tables,
                                             typename Arithmetic::Value* stages, Body body) {
  using Value = typename Arithmetic::Value;
  constexpr int kColumns = kScoreColumns<Arithmetic, kDim>;
  constexpr int kTile = kColumns * kRowStride<Arithmetic, kDim>;
  const auto row_at = [&](int first) {
    const int distance = first + lane_index();
    const bool seen = lane_index() < kColumns && distance <= unit.history;
    return seen ? static_cast<int>(p.history_rows[unit.last_token - distance + 1]) : -1;
  };
  const auto fetch = [&](int row, int stage) {
    Value* keys = stages + stage * 2 * kTile;
    gather_rows<Arithmetic, kDim, kColumns>(keys, tables.key, row, p);
    gather_rows<Arithmetic, kDim, kColumns>(keys + kTile, tables.value, row, p);
    simt::cp_async_commit();
  };
  fetch(row_at(1), 0);
  int next_row = row_at(1 + kColumns), stage = 0;
  for (int first = 1; first <= unit.history; first += kColumns, stage ^= 1) {
    if (first + kColumns <= unit.history) {
      fetch(next_row, stage ^ 1);
      next_row = row_at(first + 2 * kColumns);
      simt::cp_async_wait<1>();
    } else {
      simt::cp_async_wait<0>();
    }
    // A lane adds to the parts that it has brought itself, so the wait alone is enough.
    Value *keys = stages + stage * 2 * kTile, *values = keys + kTile;
    add_positions<Arithmetic, kDim, kColumns>(keys, tables.position_key, first, unit.history, p);
    add_positions<Arithmetic, kDim, kColumns>(values, tables.position_value, first, unit.history,
                                              p);
    __syncwarp();  // the sums are there
    body(first, keys, values);
    __syncwarp();  // the next fetch may overwrite this stage
  }
}

}  // namespace mfgan::gpu
