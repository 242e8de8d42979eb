// The kernels of factor_score for one instruction set: a chunk of one factor at a time.

// clang-format off: each needs the ones before it
#include "cpu/simd.inl"
#include "cpu/matmul.inl"
#include "cpu/factor_score_work.inl"
#include "cpu/factor_score_attention.inl"
#include "cpu/factor_score_attention_backward.inl"
#include "cpu/factor_score_dense.inl"
// clang-format on

namespace mfgan::cpu::MFGAN_ISA {

// Everything that a chunk of one factor is worked on with.
template <typename T>
struct Bench {
  const FactorScoreParams<T>& params;
  const ScorePlan& plan;
  int64_t factor;
  Sizes<T> z;
  FactorSlice<T> slice;
  Work<T> work;
  Attention<T> attention;
  Dense<T> dense;

  Bench(const FactorScoreParams<T>& p, const ScorePlan& plan, int64_t factor, bool with_gradients)
      : params(p),
        plan(plan),
        factor(factor),
        z(p, plan.most_segment_keys),
        slice(p, factor),
        attention{p, plan, z, slice, work},
        dense{p, z, slice, work} {
    Carver counter{nullptr};
    work.carve(counter, z, plan, with_gradients);
    Carver carver{static_cast<char*>(work_memory(counter.used))};
    work.carve(carver, z, plan, with_gradients);
    attention.load_distances();
  }

  // Which rows a group has, and their dropout bits.
  void load_group(const ScoreGroup& group) {
    int64_t row = 0;
    for (int64_t i = group.first_segment; i < group.last_segment; ++i) {
      const ScoreSegment& s = plan.segments[i];
      for (int64_t r = 0; r < s.num_rows(); ++r, ++row) {
        const int64_t position = plan.order[s.first_position + s.position_of(r)];
        work.place[row] = position * params.num_candidates + s.candidate_of(r);
        work.table_row[row] = params.candidate_rows[work.place[row]];
      }
    }
    if (params.drop_threshold == 0) return;
    for (row = 0; row < group.num_rows; ++row) {
      const int64_t place = work.place[row] * params.num_factors + factor;
      for (int64_t h = 0; h < z.heads; ++h)
        draw(0, place * z.heads + h, work.weight_keys, h * plan.most_rows + row);
      draw(1, place, work.out_keys, row);
      draw(2, place, work.ff_keys, row);
    }
  }

  void draw(int64_t site, int64_t from, const Keys& keys, int64_t at) const {
    const RowKey key = row_key(params.seed, params.offset, params.site + site, from);
    keys.start[at] = key.start;
    keys.flip[at] = key.flip;
  }

  // Calls run(segment, its first row) for every segment of a group.
  template <typename Run>
  void each_segment(const ScoreGroup& group, const Run& run) const {
    int64_t row = 0;
    for (int64_t i = group.first_segment; i < group.last_segment; ++i) {
      run(plan.segments[i], row);
      row += plan.segments[i].num_rows();
    }
  }

  void attend(const ScoreGroup& group) {
    load_group(group);
    attention.load_rows(group);
    each_segment(group, [&](const ScoreSegment& s, int64_t first_row) {
      attention.template load_segment<Pass::kForward>(s);
      attention.template each_block<Pass::kForward>(
          s, first_row,
          [&](const Block& b, const KeyValues<T>& kv, int64_t) { attention.attend(b, kv); });
    });
  }

  void forward(const ScoreGroup& group, T* out) {
    attend(group);
    for (int64_t n = 0; n < group.num_rows; n += kPanel) {
      const int64_t count = smaller(kPanel, group.num_rows - n);
      dense.forward(n, count);
      for (int64_t i = 0; i < count; ++i)
        out[work.place[n + i] * params.num_factors + factor] = work.score[i];
    }
  }

  void backward(const ScoreGroup& group, const ScoreChunk& chunk, const int32_t* slots,
                const T* grad_out, const Sums<T>& sums) {
    attend(group);
    for (int64_t n = 0; n < group.num_rows; n += kPanel) {
      const int64_t count = smaller(kPanel, group.num_rows - n);
      dense.forward(n, count);
      fill_zero(work.grad_score, kPanel);
      for (int64_t i = 0; i < count; ++i)
        work.grad_score[i] = grad_out[work.place[n + i] * params.num_factors + factor];
      dense.backward(n, count, slots, sums);
    }
    const AttentionBackward<T> gradients{attention, chunk, sums};
    each_segment(
        group, [&](const ScoreSegment& s, int64_t first_row) { gradients.segment(s, first_row); });
    gradients.scatter(group, slots);
  }
};

template <typename T>
void forward(const FactorScoreParams<T>& params, const ScorePlan& plan, int64_t chunk,
             int64_t factor, T* out) {
  Bench<T> bench(params, plan, factor, false);
  for (int64_t g = plan.chunks[chunk].first_group; g < plan.chunks[chunk].last_group; ++g)
    bench.forward(plan.groups[g], out);
}

template <typename T>
int64_t num_sums(const FactorScoreParams<T>& params, const ScoreChunk& chunk) {
  return Sums<T>(Sizes<T>(params), chunk, nullptr).size;
}

template <typename T>
void backward(const FactorScoreParams<T>& params, const ScorePlan& plan, int64_t chunk_index,
              int64_t factor, const T* grad_out, T* block) {
  const ScoreChunk& chunk = plan.chunks[chunk_index];
  Bench<T> bench(params, plan, factor, true);
  const Sums<T> sums(bench.z, chunk, block);
  fill_zero(block, sums.size);
  const int32_t* slots = chunk.candidate_slots.data();
  for (int64_t g = chunk.first_group; g < chunk.last_group; ++g) {
    bench.backward(plan.groups[g], chunk, slots, grad_out, sums);
    slots += plan.groups[g].num_rows;
  }
}

// to[h * head_dim + i] += from[h * head_width + i].
template <typename T>
inline void add_heads(const Sizes<T>& z, const T* from, T* to) {
  for (int64_t h = 0; h < z.heads; ++h)
    add_to(from + h * z.head_width, z.head_dim, to + h * z.head_dim);
}

template <typename T>
void clear_rows(const FactorScoreParams<T>& params, int64_t factor,
                const FactorScoreGrads<T>& grads) {
  const int64_t size = params.num_rows * params.dim();
  for (T* table : {grads.query, grads.key, grads.value, grads.residual})
    fill_zero(table + factor * size, size);
}

template <typename T>
inline void add_rows(const FactorScoreParams<T>& params, const ScoreChunk& chunk, int64_t factor,
                     const Sizes<T>& z, const Sums<T>& sums, const FactorScoreGrads<T>& grads) {
  const int64_t* rows = chunk.rows.data();
  const int64_t num_rows = static_cast<int64_t>(chunk.rows.size());
  const auto row_of = [&](int64_t slot) {
    return (factor * params.num_rows + rows[smaller(slot, num_rows - 1)]) * z.dim;
  };
  for (int64_t slot = 0; slot < num_rows; ++slot) {
    const int64_t at = row_of(slot), next = row_of(slot + kRowsAhead);
    for (T* table : {grads.query, grads.key, grads.value, grads.residual})
      prefetch_row(table + next, z.dim);
    add_heads(z, sums.query + slot * z.row_width, grads.query + at);
    add_heads(z, sums.key + slot * z.row_width, grads.key + at);
    add_heads(z, sums.value + slot * z.row_width, grads.value + at);
    add_to(sums.residual + slot * z.dim_width, z.dim, grads.residual + at);
  }
}

template <typename T>
inline void add_weights(const FactorScoreParams<T>& params, int64_t factor, const Sizes<T>& z,
                        const Sums<T>& sums, const FactorScoreGrads<T>& grads) {
  const int64_t d = z.dim, w = z.width;
  T* position_key = grads.position_key + factor * params.num_distances * d;
  T* position_value = grads.position_value + factor * params.num_distances * d;
  add_heads(z, sums.own_position_key, position_key);
  add_heads(z, sums.own_position_value, position_value);
  for (int64_t i = 0; i < z.max_history; ++i) {
    const int64_t to = (z.max_history - i) * d;
    add_heads(z, sums.distance_key + i * z.row_width, position_key + to);
    add_heads(z, sums.distance_value + i * z.row_width, position_value + to);
  }
  for (int64_t i = 0; i < d; ++i) {
    add_heads(z, sums.out_weight + i * z.row_width, grads.out_weight + (factor * d + i) * d);
    add_to(sums.ff2_weight + i * z.width_width, w, grads.ff2_weight + (factor * d + i) * w);
    grads.ff2_bias[factor * d + i] += sum_of<T>(load(sums.ff2_bias + i * kLanes<T>));
    grads.head_weight[factor * d + i] += sum_of<T>(load(sums.head_weight + i * kLanes<T>));
  }
  for (int64_t i = 0; i < w; ++i) {
    add_to(sums.ff1_weight + i * z.dim_width, d, grads.ff1_weight + (factor * w + i) * d);
    grads.ff1_bias[factor * w + i] += sum_of<T>(load(sums.ff1_bias + i * kLanes<T>));
  }
  grads.head_bias[factor] += sum_of<T>(load(sums.head_bias));
}

template <typename T>
void add_chunk(const FactorScoreParams<T>& params, const ScoreChunk& chunk, int64_t factor,
               const T* block, const FactorScoreGrads<T>& grads) {
  const Sizes<T> z(params);
  const Sums<T> sums(z, chunk, const_cast<T*>(block));
  add_rows(params, chunk, factor, z, sums, grads);
  add_weights(params, factor, z, sums, grads);
}

template <typename T>
ScoreKernels<T> kernels() {
  return {forward<T>, num_sums<T>, backward<T>, clear_rows<T>, add_chunk<T>};
}

}  // namespace mfgan::cpu::MFGAN_ISA
