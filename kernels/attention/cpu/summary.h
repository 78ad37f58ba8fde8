// Summary queries see k + m keys at most, all of their own chunk: plain vector arithmetic along the head dim.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/attention/cpu/tile.h"
#include "kernels/attention/cpu/vector.h"

namespace ksa::cpu_attention {

// Rows are padded with zeros to `pitch` elements, a multiple of the vector width.
template <typename A>
inline A DotRow(const A* a, const A* b, int64_t pitch) {
  Vec<A> sum = {};
  for (int64_t i = 0; i < pitch; i += kWidth<A>) {
    sum += Load(a + i) * Load(b + i);
  }
  return SumLanes<A>(sum);
}

// to += factor · row
template <typename A>
inline void AddRow(A factor, const A* row, int64_t pitch, A* to) {
  for (int64_t i = 0; i < pitch; i += kWidth<A>) {
    Store<A>(to + i, Load(to + i) + factor * Load(row + i));
  }
}

// x[j] = exp2(x[j] - shift) for j < count; returns their sum. Writes up to the next multiple of the vector width.
template <typename A>
inline A Exp2Row(A* x, int64_t count, A shift) {
  for (int64_t j = count; j < RoundUp(count, kWidth<A>); ++j) {
    x[j] = -std::numeric_limits<A>::infinity();
  }
  Vec<A> sum = {};
  for (int64_t j = 0; j < count; j += kWidth<A>) {
    const Vec<A> value = Exp2(Load(x + j) - shift);
    Store<A>(x + j, value);
    sum += value;
  }
  return SumLanes<A>(sum);
}

// Consecutive rows of keys and values, and in backward of their gradients.
template <typename A>
struct KeyRows {
  int64_t count;
  const A* k;
  const A* v;
  A* dk = nullptr;
  A* dv = nullptr;
};

// Row c·m + a of a chunk's summaries as a query of one head: where it lies and the keys it sees.
template <typename T>
struct SummaryQuery {
  using A = Accumulator<T>;

  SummaryQuery(const Problem<T>& problem, int32_t sequence, int32_t summary, int64_t head)
      : index(problem.queries.SummaryRow(sequence, summary) * problem.heads + head),
        text(problem.layout.SummaryTextKeys(sequence, summary)),
        summaries(problem.layout.SummarySummaryKeys(summary)),
        pitch(problem.pitch),
        value_pitch(problem.value_pitch) {
    const int64_t group = head / problem.queries_per_kv;
    rows[0] = {text.size(),
               problem.TextKey(sequence, group) + text.begin * pitch,
               problem.TextValue(sequence, group) + text.begin * value_pitch};
    rows[1] = {summaries.size(),
               problem.SummaryKey(sequence, group) + summaries.begin * pitch,
               problem.SummaryValue(sequence, group) + summaries.begin * value_pitch};
  }

  [[nodiscard]] int64_t keys() const { return rows[0].count + rows[1].count; }

  // Calls visit(j, rows, i) for key j of keys(): row i of `rows`.
  template <typename Visit>
  void ForEachKey(Visit visit) const {
    int64_t j = 0;
    for (const KeyRows<A>& part : rows) {
      for (int64_t i = 0; i < part.count; ++i) {
        visit(j++, part, i);
      }
    }
  }

  int64_t index;  // row of q · h + head: where it lies in q, out and lse
  Range text;
  Range summaries;
  int64_t pitch;
  int64_t value_pitch;
  KeyRows<A> rows[2];  // text, then summaries
};

// Elements that the scores of one summary query take.
template <typename T>
int64_t SummaryScores(const Problem<T>& problem) {
  return RoundUp(int64_t{1} * problem.layout.chunk_size + problem.layout.summary_tokens, kVectorBytes);
}

// Calls visit(summary, head) for the summary queries of `chunks` that read key/value head `group`.
template <typename T, typename Visit>
void ForEachSummaryQuery(const Problem<T>& problem, Range chunks, int64_t group, Visit visit) {
  const int32_t m = problem.layout.summary_tokens;
  for (int32_t summary = chunks.begin * m; summary < chunks.end * m; ++summary) {
    for (int64_t head = group * problem.queries_per_kv; head < (group + 1) * problem.queries_per_kv; ++head) {
      visit(summary, head);
    }
  }
}

}  // namespace ksa::cpu_attention
