#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/factor_score.h"

namespace mfgan::cpu {
namespace {

// Rows of a block: as many as leave a block's weights in the second-level cache.
constexpr int64_t kMostBlockRows = 64;
constexpr int64_t kMostGroupRows = 192;
// Attention weights of a group, before and after dropout.
constexpr int64_t kMostGroupFloats = 80 * 1024;
// Below these, keys added up once a position are cheaper than sheared products.
constexpr int64_t kMostShearedCandidates = 3;
constexpr int64_t kLeastShearedPositions = 4;
// Of a chunk: its sums stay near the second-level cache, and it is long enough that adding them up
// is little beside making them.
constexpr int64_t kLeastChunkRows = 384;
constexpr int64_t kMostChunks = 16;

struct Planner {
  const int64_t* positions;
  int64_t num_candidates;
  const int32_t* cu_seqlens;
  int64_t num_sessions;
  int64_t max_history;
  int64_t most_group_rows = kMostGroupRows;
  ScorePlan plan = {};

  int64_t token(int64_t i) const { return positions[plan.order[i]]; }

  // How many positions from `i` on follow each other before `end`.
  int64_t run(int64_t i, int64_t end, int64_t most) const {
    int64_t length = 1;
    while (length < most && i + length < end && token(i + length) == token(i) + length) ++length;
    return length;
  }

  bool shears(int64_t i, int64_t end) const {
    return num_candidates <= kMostShearedCandidates &&
           run(i, end, kLeastShearedPositions) == kLeastShearedPositions;
  }

  // Isolated positions from `i` on whose keys lie near each other.
  int64_t neighbours(int64_t i, int64_t end) const {
    const int64_t most = std::max<int64_t>(1, most_group_rows / num_candidates);
    int64_t length = 1;
    while (length < most && i + length < end && token(i + length) - token(i) < kMostBlockRows &&
           !shears(i + length, end))
      ++length;
    return length;
  }

  void add_segment(int64_t i, int64_t length, int64_t begin, int64_t first_candidate, int64_t count,
                   bool sheared) {
    ScoreSegment s;
    s.first_position = i;
    s.num_positions = length;
    s.first_candidate = first_candidate;
    s.num_candidates = count;
    s.session_begin = begin;
    s.first_key = std::max(begin, token(i) + 1 - max_history);
    s.num_keys = token(i + length - 1) + 1 - s.first_key;
    s.sheared = sheared;
    plan.segments.push_back(s);
  }

  // The positions order[i] to order[end - 1], all of the session that starts at `begin`.
  void add_session(int64_t i, int64_t end, int64_t begin) {
    while (i < end) {
      int64_t length;
      if (shears(i, end)) {
        length = run(i, end, kMostBlockRows / num_candidates);
        add_segment(i, length, begin, 0, num_candidates, true);
      } else if (num_candidates <= kMostBlockRows) {
        length = neighbours(i, end);
        add_segment(i, length, begin, 0, num_candidates, false);
      } else {
        length = 1;
        for (int64_t c = 0; c < num_candidates; c += kMostBlockRows)
          add_segment(i, 1, begin, c, std::min(kMostBlockRows, num_candidates - c), false);
      }
      i += length;
    }
  }

  void add_sessions() {
    const int64_t num_positions = static_cast<int64_t>(plan.order.size());
    int64_t session = 0;
    for (int64_t i = 0, end; i < num_positions; i = end) {
      while (cu_seqlens[session + 1] <= token(i)) ++session;
      end = i + 1;
      while (end < num_positions && token(end) < cu_seqlens[session + 1]) ++end;
      add_session(i, end, cu_seqlens[session]);
    }
  }

  void make_groups() {
    const int64_t num_segments = static_cast<int64_t>(plan.segments.size());
    for (int64_t i = 0; i < num_segments;) {
      ScoreGroup group{i, i, 0};
      do {
        group.num_rows += plan.segments[i].num_rows();
        group.last_segment = ++i;
      } while (i < num_segments && group.num_rows + plan.segments[i].num_rows() <= most_group_rows);
      plan.groups.push_back(group);
      plan.most_rows = std::max(plan.most_rows, group.num_rows);
    }
    for (const ScoreSegment& s : plan.segments) {
      plan.most_segment_keys = std::max(plan.most_segment_keys, s.num_keys);
    }
  }

  void make_chunks() {
    const int64_t num_groups = static_cast<int64_t>(plan.groups.size());
    const int64_t num_rows = static_cast<int64_t>(plan.order.size()) * num_candidates;
    const int64_t wanted = std::max(kLeastChunkRows, (num_rows + kMostChunks - 1) / kMostChunks);
    for (int64_t i = 0; i < num_groups;) {
      ScoreChunk chunk;
      chunk.first_group = i;
      for (int64_t rows = 0; i < num_groups && rows < wanted;) rows += plan.groups[i++].num_rows;
      chunk.last_group = i;
      plan.chunks.push_back(std::move(chunk));
    }
  }
};

}  // namespace

ScorePlan plan_scores(const int64_t* positions, int64_t num_positions, int64_t num_candidates,
                      const int32_t* cu_seqlens, int64_t num_sessions, int64_t max_history,
                      int64_t num_heads) {
  Planner planner{positions, num_candidates, cu_seqlens, num_sessions, max_history};
  if (num_candidates == 0) return std::move(planner.plan);
  std::vector<int64_t>& order = planner.plan.order;
  order.resize(num_positions);
  for (int64_t i = 0; i < num_positions; ++i) order[i] = i;
  const auto earlier = [&](int64_t a, int64_t b) { return positions[a] < positions[b]; };
  if (!std::is_sorted(order.begin(), order.end(), earlier))
    std::stable_sort(order.begin(), order.end(), earlier);
  int64_t longest = 1;
  for (int64_t i = 0; i < num_sessions; ++i)
    longest = std::max<int64_t>(longest, cu_seqlens[i + 1] - cu_seqlens[i]);
  const int64_t keys = std::min(longest, max_history + kMostBlockRows);
  planner.most_group_rows =
      std::clamp(kMostGroupFloats / (2 * num_heads * (keys + 32)), kMostBlockRows, kMostGroupRows);
  planner.add_sessions();
  planner.make_groups();
  planner.make_chunks();
  return std::move(planner.plan);
}

void plan_gradients(ScorePlan& plan, int64_t num_candidates, int64_t num_table_rows,
                    const int64_t* history_rows, const int64_t* candidate_rows) {
  std::vector<int32_t> slot_of_row(num_table_rows, -1);
  for (ScoreChunk& chunk : plan.chunks) {
    const ScoreSegment* first = &plan.segments[plan.groups[chunk.first_group].first_segment];
    const ScoreSegment* last = &plan.segments[plan.groups[chunk.last_group - 1].last_segment - 1];
    chunk.first_token = first->first_key;
    int64_t end_token = chunk.first_token;
    const auto note = [&](int64_t row) {
      if (slot_of_row[row] < 0) {
        slot_of_row[row] = 0;
        chunk.rows.push_back(row);
      }
    };
    const auto each_candidate = [&](const ScoreSegment& s, const auto& visit) {
      for (int64_t row = 0; row < s.num_rows(); ++row) {
        const int64_t position = plan.order[s.first_position + s.position_of(row)];
        visit(candidate_rows[position * num_candidates + s.candidate_of(row)]);
      }
    };
    for (const ScoreSegment* s = first; s <= last; ++s) {
      for (int64_t k = 0; k < s->num_keys; ++k) note(history_rows[s->first_key + k]);
      each_candidate(*s, note);
      end_token = std::max(end_token, s->first_key + s->num_keys);
    }
    std::sort(chunk.rows.begin(), chunk.rows.end());
    for (size_t i = 0; i < chunk.rows.size(); ++i)
      slot_of_row[chunk.rows[i]] = static_cast<int32_t>(i);
    chunk.token_slots.resize(end_token - chunk.first_token);
    for (const ScoreSegment* s = first; s <= last; ++s) {
      for (int64_t token = s->first_key; token < s->first_key + s->num_keys; ++token)
        chunk.token_slots[token - chunk.first_token] = slot_of_row[history_rows[token]];
      each_candidate(*s, [&](int64_t row) { chunk.candidate_slots.push_back(slot_of_row[row]); });
    }
    for (const int64_t row : chunk.rows) slot_of_row[row] = -1;
  }
}

}  // namespace mfgan::cpu
