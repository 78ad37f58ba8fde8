#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include <omp.h>

#include "kernels/attention/cpu/attention.h"
#include "kernels/attention/cpu/kernels.h"
#include "kernels/attention/cpu/summary.h"
#include "kernels/attention/cpu/tile.h"

namespace ksa::cpu_attention {
namespace {

constexpr int32_t kKeyTile = 128;  // keys between two rescalings of the output
constexpr int64_t kTilesPerTask = 4;
constexpr int32_t kChunksPerTask = 64;

// Scratch of one thread and the running softmax of one tile.
template <typename A>
struct ForwardState {
  A* rows;               // [kLanes, pitch or value_pitch] queries, later the output, as rows
  A* queries;            // [pitch, kLanes]
  A* out;                // [value_pitch, kLanes] not yet normalised
  A* scores;             // [kKeyTile + kBlock, kLanes]; also the scores of one summary query
  Vec<A> max[kVectors];  // of the scores seen so far
  Vec<A> sum[kVectors];  // of exp2(score - max)

  static int64_t ScoreSize(int64_t summary_scores) {
    return std::max<int64_t>((kKeyTile + kBlock) * kLanes<A>, summary_scores);
  }

  // `pitch`: the longer one of both.
  static int64_t Size(int64_t pitch, int64_t summary_scores) {
    return 3 * kLanes<A> * pitch + ScoreSize(summary_scores);
  }

  ForwardState(A* memory, int64_t pitch)
      : rows(memory),
        queries(rows + kLanes<A> * pitch),
        out(queries + kLanes<A> * pitch),
        scores(out + kLanes<A> * pitch) {}
};

// Hides the keys that a lane does not see, and returns the running maximum.
template <typename A, bool kMasked>
Vec<A> MaxScore(const KeySpan<A>& span, int v, Range keys, A* scores, Vec<A> max) {
  for (int32_t j = keys.begin; j < keys.end; ++j, scores += kLanes<A>) {
    Vec<A> score = Load(scores);
    if constexpr (kMasked) {
      score = span.Sees(v, j) ? score : Broadcast(-std::numeric_limits<A>::infinity());
      Store(scores, score);
    }
    max = score > max ? score : max;
  }
  return max;
}

// Turns the scores of vector v for `keys` into exp2(score - max), after scaling the sum and output so far to the new
// maximum. `scores` belongs to the first key.
template <typename A>
void Exponentiate(const KeySpan<A>& span, int v, Range keys, int64_t dim, A* scores, ForwardState<A>& state) {
  const auto at = [&](int32_t j) { return scores + int64_t{1} * (j - keys.begin) * kLanes<A>; };
  Range whole = Intersect(span.all[v], keys);
  if (whole.size() == 0) {
    whole = {keys.begin, keys.begin};
  }
  Vec<A> max = state.max[v];
  max = MaxScore<A, true>(span, v, {keys.begin, whole.begin}, scores, max);
  max = MaxScore<A, false>(span, v, whole, at(whole.begin), max);
  max = MaxScore<A, true>(span, v, {whole.end, keys.end}, at(whole.end), max);
  // A lane that has seen nothing yet keeps max = -infinity; subtracting a finite number leaves its weights 0.
  const Vec<A> shift = max < std::numeric_limits<A>::lowest() ? Vec<A>{} : max;
  const Vec<A> correction = Exp2(state.max[v] - shift);
  for (int64_t d = 0; d < dim; ++d) {
    A* out = state.out + d * kLanes<A> + v * kWidth<A>;
    Store<A>(out, Load(out) * correction);
  }
  Vec<A> sum = state.sum[v] * correction;
  for (int32_t j = keys.begin; j < keys.end; ++j, scores += kLanes<A>) {
    const Vec<A> weight = Exp2(Load(scores) - shift);
    Store<A>(scores, weight);
    sum += weight;
  }
  state.max[v] = max;
  state.sum[v] = sum;
}

template <typename T>
void VisitKeys(const Problem<T>& problem,
               const KeySpan<Accumulator<T>>& span,
               const Accumulator<T>* k,
               const Accumulator<T>* v,
               ForwardState<Accumulator<T>>& state) {
  using A = Accumulator<T>;
  const int64_t pitch = problem.pitch;
  ForEachKeyTile<A>(span, kKeyTile, [&](Range keys, const Range(&ranges)[kVectors]) {
    const auto score = [&](int vector, int32_t j) {
      return state.scores + int64_t{1} * (j - keys.begin) * kLanes<A> + vector * kWidth<A>;
    };
    // Each strip spoils a few rows behind its end; the next strip of the same vector writes them anew.
    ForEachStrip(ranges, [&]<int kCount>(int vector, Range strip) {
      ScoreRows<A, kCount>(k + strip.begin * pitch,
                           pitch,
                           problem.dim,
                           strip.size(),
                           state.queries + vector * kWidth<A>,
                           score(vector, strip.begin));
    });
    for (int vector = 0; vector < kVectors; ++vector) {
      if (ranges[vector].size() > 0) {
        Exponentiate(span, vector, ranges[vector], problem.value_dim, score(vector, ranges[vector].begin), state);
      }
    }
    ForEachStrip(ranges, [&]<int kCount>(int vector, Range strip) {
      AddToTile<A, kCount>(v + strip.begin * problem.value_pitch,
                           problem.value_pitch,
                           problem.value_dim,
                           strip.size(),
                           score(vector, strip.begin),
                           state.out + vector * kWidth<A>);
    });
  });
}

template <typename A>
A LogSumExp(A max, A sum) {
  return sum == 0 ? -std::numeric_limits<A>::infinity() : (max + std::log2(sum)) * std::numbers::ln2_v<A>;
}

template <typename T>
void ForwardTile(const Problem<T>& problem,
                 const AttentionForwardArgs& args,
                 const QueryTile<T>& tile,
                 ForwardState<Accumulator<T>>& state) {
  using A = Accumulator<T>;
  const int64_t pitch = problem.pitch;
  const int64_t value_pitch = problem.value_pitch;
  tile.Load(args.q.As<T>(), problem.dim, problem.log2_scale, pitch, state.rows);
  Transpose(state.rows, pitch, kLanes<A>, pitch, state.queries, kLanes<A>);
  std::fill_n(state.out, kLanes<A> * value_pitch, A{0});
  for (int v = 0; v < kVectors; ++v) {
    state.max[v] = Broadcast(-std::numeric_limits<A>::infinity());
    state.sum[v] = Vec<A>{};
  }
  VisitKeys(problem,
            tile.text,
            problem.TextKey(tile.sequence, tile.group),
            problem.TextValue(tile.sequence, tile.group),
            state);
  VisitKeys(problem,
            tile.summaries,
            problem.SummaryKey(tile.sequence, tile.group),
            problem.SummaryValue(tile.sequence, tile.group),
            state);
  for (int v = 0; v < kVectors; ++v) {
    const Vec<A> inverse = state.sum[v] == 0 ? Vec<A>{} : 1 / state.sum[v];
    for (int64_t d = 0; d < problem.value_dim; ++d) {
      A* out = state.out + d * kLanes<A> + v * kWidth<A>;
      Store<A>(out, Load(out) * inverse);
    }
  }
  Transpose(state.out, kLanes<A>, value_pitch, kLanes<A>, state.rows, value_pitch);
  tile.Store(state.rows, value_pitch, problem.value_dim, A{1}, args.out.As<T>());
  for (int lane = 0; lane < tile.rows; ++lane) {
    const int v = lane / kWidth<A>;
    const int i = lane % kWidth<A>;
    args.lse.As<A>()[tile.index[lane]] = LogSumExp<A>(state.max[v][i], state.sum[v][i]);
  }
}

// One summary query: its chunk's text, then the chunk's summaries up to itself.
template <typename T>
void ForwardSummary(const Problem<T>& problem,
                    const AttentionForwardArgs& args,
                    const SummaryQuery<T>& query,
                    ForwardState<Accumulator<T>>& state) {
  using A = Accumulator<T>;
  const int64_t pitch = problem.pitch;
  const int64_t value_pitch = problem.value_pitch;
  LoadRow(args.q.As<T>() + query.index * problem.dim, problem.dim, problem.log2_scale, pitch, state.queries);
  A max = -std::numeric_limits<A>::infinity();
  query.ForEachKey([&](int64_t j, const KeyRows<A>& rows, int64_t i) {
    state.scores[j] = DotRow(state.queries, rows.k + i * pitch, pitch);
    max = std::max(max, state.scores[j]);
  });
  const A sum = Exp2Row(state.scores, query.keys(), max);
  std::fill_n(state.out, value_pitch, A{0});
  query.ForEachKey([&](int64_t j, const KeyRows<A>& rows, int64_t i) {
    AddRow(state.scores[j], rows.v + i * value_pitch, value_pitch, state.out);
  });
  StoreRow(state.out, problem.value_dim, 1 / sum, args.out.As<T>() + query.index * problem.value_dim);
  args.lse.As<A>()[query.index] = LogSumExp(max, sum);
}

}  // namespace

template <typename T>
void Forward(const AttentionForwardArgs& args, int threads, Allocator& scratch) {
  using A = Accumulator<T>;
  const Problem<T> problem(args, threads, scratch);
  const int64_t pitch = std::max(problem.pitch, problem.value_pitch);
  const int64_t size = ForwardState<A>::Size(pitch, SummaryScores(problem));
  const Tensor memory = Tensor::Empty({threads, size}, DTypeOf<A>::value, scratch);
  const int64_t heads = problem.layout.sequences * problem.groups;
  const int64_t rows = problem.queries.text.size() * problem.queries_per_kv;  // text queries of one sequence and group
  const int64_t first_row = problem.queries.text.begin * problem.queries_per_kv;
  const int64_t rows_per_task = kTilesPerTask * kLanes<A>;
  const int64_t tile_tasks = (rows + rows_per_task - 1) / rows_per_task;
  const int64_t summary_tasks = (problem.queries.summary_chunks + kChunksPerTask - 1) / kChunksPerTask;
#pragma omp parallel num_threads(threads)
  {
    ForwardState<A> state(memory.As<A>() + omp_get_thread_num() * size, pitch);
#pragma omp for schedule(dynamic) nowait
    for (int64_t task = 0; task < heads * tile_tasks; ++task) {
      const int64_t head = task / tile_tasks;
      const int64_t begin = task % tile_tasks * rows_per_task;
      const int64_t end = std::min(begin + rows_per_task, rows);
      for (int64_t row = first_row + begin; row < first_row + end; row += kLanes<A>) {
        const auto sequence = static_cast<int32_t>(head / problem.groups);
        const QueryTile<T> tile(problem, sequence, head % problem.groups, row, first_row + end);
        ForwardTile(problem, args, tile, state);
      }
    }
#pragma omp for schedule(dynamic) nowait
    for (int64_t task = 0; task < heads * summary_tasks; ++task) {
      const int64_t head = task / summary_tasks;
      const auto sequence = static_cast<int32_t>(head / problem.groups);
      const auto first = static_cast<int32_t>(task % summary_tasks * kChunksPerTask);
      const Range chunks = {first, std::min(first + kChunksPerTask, problem.queries.summary_chunks)};
      ForEachSummaryQuery(problem, chunks, head % problem.groups, [&](int32_t summary, int64_t query_head) {
        ForwardSummary(problem, args, SummaryQuery<T>(problem, sequence, summary, query_head), state);
      });
    }
  }
}

template void Forward<double>(const AttentionForwardArgs&, int, Allocator&);
template void Forward<float>(const AttentionForwardArgs&, int, Allocator&);
template void Forward<BFloat16>(const AttentionForwardArgs&, int, Allocator&);

}  // namespace ksa::cpu_attention
