#include <algorithm>
#include <cstdint>
#include <limits>
#include <numbers>
#include <vector>

#include <omp.h>

#include "kernels/attention/cpu/attention.h"
#include "kernels/attention/cpu/kernels.h"
#include "kernels/attention/cpu/summary.h"
#include "kernels/attention/cpu/tile.h"

// The queries of a (sequence, key/value head) are cut into parts, by shapes alone. A part is one task: it goes through
// its query tiles in order, finishes their dq, and adds to sums of dk and dv of its own. Then the sums of the parts are
// added, again in order. So no order of additions depends on the threads, and scores are computed once.
namespace ksa::cpu_attention {
namespace {

constexpr int32_t kKeyTile = 64;
constexpr int64_t kTasks = 32;         // how many tasks there should be, so that threads share them evenly
constexpr int64_t kRowsPerPart = 256;  // at least; fewer would make the adding-up noticeable
constexpr int64_t kKeysPerTask = 64;

// A stretch of one sequence's queries, and the keys they see: rows `offset`.. of the sums hold their gradients.
struct Part {
  int32_t sequence;
  Range positions = {};       // text queries
  Range summary_chunks = {};  // chunks of the summary queries
  Range text = {};            // keys
  Range summaries = {};
  int64_t text_offset = 0;
  int64_t summary_offset = 0;
};

// The text rows of a sequence that are cut into parts: the text queries, or the text of the summary queries.
template <typename T>
Range PositionsOf(const Problem<T>& problem) {
  const bool summaries_alone = problem.queries.text.size() == 0 && problem.queries.summary_chunks > 0;
  return summaries_alone ? Range{0, problem.layout.text_tokens} : problem.queries.text;
}

template <typename T>
int32_t PositionsPerPart(const Problem<T>& problem) {
  const int32_t positions = PositionsOf(problem).size();
  const int64_t heads = std::max<int64_t>(1, problem.layout.sequences * problem.groups);
  const int64_t rows = positions * problem.queries_per_kv;
  const int64_t parts = std::clamp<int64_t>(rows / kRowsPerPart, 1, (kTasks + heads - 1) / heads);
  return static_cast<int32_t>(RoundUp((positions + parts - 1) / parts, problem.layout.chunk_size));
}

template <typename T>
Part MakePart(const Problem<T>& problem, int32_t sequence, Range positions) {
  const SummaryLayout& layout = problem.layout;
  Part part = {.sequence = sequence};
  if (problem.queries.text.size() > 0) {
    part.positions = positions;
  }
  for (int32_t i = part.positions.begin; i < part.positions.end; ++i) {
    part.text = Hull(part.text, problem.KeysOf(sequence, i).text);
    part.summaries = Hull(part.summaries, problem.KeysOf(sequence, i).summaries);
  }
  // With summary queries, parts begin at chunks.
  const int32_t end_chunk = (positions.end + layout.chunk_size - 1) / layout.chunk_size;
  part.summary_chunks = {positions.begin / layout.chunk_size, std::min(end_chunk, problem.queries.summary_chunks)};
  for (int32_t chunk = part.summary_chunks.begin; chunk < part.summary_chunks.end; ++chunk) {
    const int32_t m = layout.summary_tokens;
    part.text = Hull(part.text, layout.SummaryTextKeys(sequence, chunk * m));
    part.summaries = Hull(part.summaries, {chunk * m, (chunk + 1) * m});
  }
  return part;
}

// The sums of dk and dv of all parts: [g, rows of all parts, pitch], [.., value_pitch].
template <typename T>
class KeySums {
 public:
  using A = Accumulator<T>;

  KeySums(const Problem<T>& problem, Allocator& scratch) : pitch_(problem.pitch), value_pitch_(problem.value_pitch) {
    const int32_t step = PositionsPerPart(problem);
    const Range all = PositionsOf(problem);
    for (int32_t sequence = 0; sequence < problem.layout.sequences; ++sequence) {
      for (int32_t begin = all.begin; begin < all.end; begin += step) {
        Part part = MakePart(problem, sequence, {begin, std::min(begin + step, all.end)});
        part.text_offset = rows_;
        part.summary_offset = rows_ + part.text.size();
        rows_ = part.summary_offset + part.summaries.size();
        parts.push_back(part);
      }
    }
    dk_ = Tensor::Empty({problem.groups, rows_, pitch_}, DTypeOf<A>::value, scratch);
    dv_ = Tensor::Empty({problem.groups, rows_, value_pitch_}, DTypeOf<A>::value, scratch);
  }

  // Where row `offset` of group `group` lies.
  [[nodiscard]] A* Dk(int64_t group, int64_t offset) const { return dk_.As<A>() + (group * rows_ + offset) * pitch_; }

  [[nodiscard]] A* Dv(int64_t group, int64_t offset) const {
    return dv_.As<A>() + (group * rows_ + offset) * value_pitch_;
  }

  void Clear(const Part& part, int64_t group) const {
    const int64_t rows = part.text.size() + part.summaries.size();
    std::fill_n(Dk(group, part.text_offset), rows * pitch_, A{0});
    std::fill_n(Dv(group, part.text_offset), rows * value_pitch_, A{0});
  }

  std::vector<Part> parts;  // by sequence, then by position

 private:
  int64_t pitch_;
  int64_t value_pitch_;
  int64_t rows_ = 0;
  Tensor dk_;
  Tensor dv_;
};

// Scratch of one thread: a tile of queries as rows [kLanes, pitch] and as columns [pitch, kLanes]; what has the width
// of values has their pitch. There is room for the longer one of both everywhere.
template <typename A>
struct BackwardState {
  A* query_rows;  // times scale and log2(e)
  A* dout_rows;
  A* out_rows;  // later dq
  A* queries;
  A* douts;
  A* dqueries;
  A* weights;                              // [kKeyTile + kBlock, kLanes] scores, then softmax weights
  A* dscores;                              // [kKeyTile + kBlock, kLanes]
  alignas(kVectorBytes) A lse[kLanes<A>];  // base 2; +infinity where nothing is seen, so that all weights are 0
  alignas(kVectorBytes) A delta[kLanes<A>];

  static int64_t ScoreSize(int64_t summary_scores) {
    return std::max<int64_t>((kKeyTile + kBlock) * kLanes<A>, summary_scores);
  }

  static int64_t Size(int64_t pitch, int64_t summary_scores) {
    return 6 * kLanes<A> * pitch + 2 * ScoreSize(summary_scores);
  }

  BackwardState(A* memory, int64_t pitch, int64_t summary_scores)
      : query_rows(memory),
        dout_rows(query_rows + kLanes<A> * pitch),
        out_rows(dout_rows + kLanes<A> * pitch),
        queries(out_rows + kLanes<A> * pitch),
        douts(queries + kLanes<A> * pitch),
        dqueries(douts + kLanes<A> * pitch),
        weights(dqueries + kLanes<A> * pitch),
        dscores(weights + ScoreSize(summary_scores)) {}
};

// Scores of vector v become weights, and the products with dout become gradients of the scores.
template <typename A, bool kMasked>
void WeighKeys(const KeySpan<A>& span, int v, Range keys, A* weights, A* dscores, const BackwardState<A>& state) {
  const Vec<A> lse = Load(state.lse + v * kWidth<A>);
  const Vec<A> delta = Load(state.delta + v * kWidth<A>);
  for (int32_t j = keys.begin; j < keys.end; ++j, weights += kLanes<A>, dscores += kLanes<A>) {
    Vec<A> weight = Exp2(Load(weights) - lse);
    if constexpr (kMasked) {
      weight = span.Sees(v, j) ? weight : Vec<A>{};
    }
    Store<A>(weights, weight);
    Store<A>(dscores, weight * (Load(dscores) - delta));
  }
}

template <typename A>
void Weigh(const KeySpan<A>& span, int v, Range keys, A* weights, A* dscores, const BackwardState<A>& state) {
  Range whole = Intersect(span.all[v], keys);
  if (whole.size() == 0) {
    whole = {keys.begin, keys.begin};
  }
  const int64_t middle = int64_t{1} * (whole.begin - keys.begin) * kLanes<A>;
  const int64_t tail = int64_t{1} * (whole.end - keys.begin) * kLanes<A>;
  WeighKeys<A, true>(span, v, {keys.begin, whole.begin}, weights, dscores, state);
  WeighKeys<A, false>(span, v, whole, weights + middle, dscores + middle, state);
  WeighKeys<A, true>(span, v, {whole.end, keys.end}, weights + tail, dscores + tail, state);
}

// `rows` begins at key `first` of the span for dk and dv, and at key 0 for k and v.
template <typename T>
void VisitKeys(const Problem<T>& problem,
               const KeySpan<Accumulator<T>>& span,
               const KeyRows<Accumulator<T>>& rows,
               int32_t first,
               const BackwardState<Accumulator<T>>& state) {
  using A = Accumulator<T>;
  const int64_t pitch = problem.pitch;
  const int64_t dim = problem.dim;
  const int64_t value_pitch = problem.value_pitch;
  const int64_t value_dim = problem.value_dim;
  ForEachKeyTile<A>(span, kKeyTile, [&](Range keys, const Range(&ranges)[kVectors]) {
    const auto score = [&](int vector, int32_t j) {
      return int64_t{1} * (j - keys.begin) * kLanes<A> + vector * kWidth<A>;
    };
    // Each strip spoils a few rows behind its end; the next strip of the same vector writes them anew.
    ForEachStrip(ranges, [&]<int kCount>(int vector, Range strip) {
      const int64_t at = score(vector, strip.begin);
      const int64_t lane = vector * kWidth<A>;
      const int64_t row = strip.begin * pitch;
      const int64_t value_row = strip.begin * value_pitch;
      ScoreRows<A, kCount>(rows.k + row, pitch, dim, strip.size(), state.queries + lane, state.weights + at);
      ScoreRows<A, kCount>(
          rows.v + value_row, value_pitch, value_dim, strip.size(), state.douts + lane, state.dscores + at);
    });
    for (int vector = 0; vector < kVectors; ++vector) {
      if (ranges[vector].size() > 0) {
        const int64_t at = score(vector, ranges[vector].begin);
        Weigh(span, vector, ranges[vector], state.weights + at, state.dscores + at, state);
      }
    }
    ForEachStrip(ranges, [&]<int kCount>(int vector, Range strip) {
      const int64_t at = score(vector, strip.begin);
      const int64_t lane = vector * kWidth<A>;
      const int64_t out = strip.begin - first;
      AddToRows<A, kCount>(state.weights + at,
                           state.dout_rows + lane * value_pitch,
                           value_pitch,
                           strip.size(),
                           rows.dv + out * value_pitch);
      AddToRows<A, kCount>(
          state.dscores + at, state.query_rows + lane * pitch, pitch, strip.size(), rows.dk + out * pitch);
      AddToTile<A, kCount>(
          rows.k + strip.begin * pitch, pitch, dim, strip.size(), state.dscores + at, state.dqueries + lane);
    });
  });
}

template <typename A>
A Log2SumExp(A lse) {
  constexpr A kInfinity = std::numeric_limits<A>::infinity();
  return lse == -kInfinity ? kInfinity : lse * std::numbers::log2e_v<A>;
}

template <typename T>
void LoadTile(const Problem<T>& problem,
              const AttentionBackwardArgs& args,
              const QueryTile<T>& tile,
              BackwardState<Accumulator<T>>& state) {
  using A = Accumulator<T>;
  const int64_t pitch = problem.pitch;
  const int64_t value_pitch = problem.value_pitch;
  tile.Load(args.q.As<T>(), problem.dim, problem.log2_scale, pitch, state.query_rows);
  tile.Load(args.dout.As<T>(), problem.value_dim, A{1}, value_pitch, state.dout_rows);
  tile.Load(args.out.As<T>(), problem.value_dim, A{1}, value_pitch, state.out_rows);
  Transpose(state.query_rows, pitch, kLanes<A>, pitch, state.queries, kLanes<A>);
  Transpose(state.dout_rows, value_pitch, kLanes<A>, value_pitch, state.douts, kLanes<A>);
  std::fill_n(state.dqueries, kLanes<A> * pitch, A{0});
  for (int lane = 0; lane < kLanes<A>; ++lane) {
    const A lse = args.lse.As<A>()[tile.index[lane]];
    state.lse[lane] = lane < tile.rows ? Log2SumExp(lse) : std::numeric_limits<A>::infinity();
    const int64_t row = lane * value_pitch;
    state.delta[lane] = DotRow(state.dout_rows + row, state.out_rows + row, value_pitch);
  }
}

template <typename T>
void BackwardTile(const Problem<T>& problem,
                  const AttentionBackwardArgs& args,
                  const QueryTile<T>& tile,
                  const Part& part,
                  const KeySums<T>& sums,
                  BackwardState<Accumulator<T>>& state) {
  using A = Accumulator<T>;
  const int64_t pitch = problem.pitch;
  const int32_t sequence = tile.sequence;
  const int64_t group = tile.group;
  LoadTile(problem, args, tile, state);
  const KeyRows<A> text = {part.text.size(),
                           problem.TextKey(sequence, group),
                           problem.TextValue(sequence, group),
                           sums.Dk(group, part.text_offset),
                           sums.Dv(group, part.text_offset)};
  VisitKeys(problem, tile.text, text, part.text.begin, state);
  const KeyRows<A> summaries = {part.summaries.size(),
                                problem.SummaryKey(sequence, group),
                                problem.SummaryValue(sequence, group),
                                sums.Dk(group, part.summary_offset),
                                sums.Dv(group, part.summary_offset)};
  VisitKeys(problem, tile.summaries, summaries, part.summaries.begin, state);
  Transpose(state.dqueries, kLanes<A>, pitch, kLanes<A>, state.out_rows, pitch);
  tile.Store(state.out_rows, pitch, problem.dim, problem.scale, args.dq.As<T>());
}

template <typename T>
void BackwardSummary(const Problem<T>& problem,
                     const AttentionBackwardArgs& args,
                     const SummaryQuery<T>& query,
                     BackwardState<Accumulator<T>>& state) {
  using A = Accumulator<T>;
  const int64_t pitch = problem.pitch;
  const int64_t dim = problem.dim;
  const int64_t value_pitch = problem.value_pitch;
  const int64_t at = query.index * dim;
  const int64_t value_at = query.index * problem.value_dim;
  LoadRow(args.q.As<T>() + at, dim, problem.log2_scale, pitch, state.query_rows);
  LoadRow(args.dout.As<T>() + value_at, problem.value_dim, A{1}, value_pitch, state.dout_rows);
  LoadRow(args.out.As<T>() + value_at, problem.value_dim, A{1}, value_pitch, state.out_rows);
  const A delta = DotRow(state.dout_rows, state.out_rows, value_pitch);
  query.ForEachKey([&](int64_t j, const KeyRows<A>& rows, int64_t i) {
    state.weights[j] = DotRow(state.query_rows, rows.k + i * pitch, pitch);
    state.dscores[j] = DotRow(state.dout_rows, rows.v + i * value_pitch, value_pitch) - delta;
  });
  Exp2Row(state.weights, query.keys(), Log2SumExp(args.lse.As<A>()[query.index]));
  std::fill_n(state.dqueries, pitch, A{0});
  query.ForEachKey([&](int64_t j, const KeyRows<A>& rows, int64_t i) {
    const A dscore = state.weights[j] * state.dscores[j];
    AddRow(state.weights[j], state.dout_rows, value_pitch, rows.dv + i * value_pitch);
    AddRow(dscore, state.query_rows, pitch, rows.dk + i * pitch);
    AddRow(dscore, rows.k + i * pitch, pitch, state.dqueries);
  });
  StoreRow(state.dqueries, dim, problem.scale, args.dq.As<T>() + at);
}

// All queries of a part that read key/value head `group`.
template <typename T>
void BackwardPart(const Problem<T>& problem,
                  const AttentionBackwardArgs& args,
                  const Part& part,
                  int64_t group,
                  const KeySums<T>& sums,
                  BackwardState<Accumulator<T>>& state) {
  using A = Accumulator<T>;
  sums.Clear(part, group);
  const int64_t end = part.positions.end * problem.queries_per_kv;
  for (int64_t first = part.positions.begin * problem.queries_per_kv; first < end; first += kLanes<A>) {
    BackwardTile(problem, args, QueryTile<T>(problem, part.sequence, group, first, end), part, sums, state);
  }
  ForEachSummaryQuery(problem, part.summary_chunks, group, [&](int32_t summary, int64_t head) {
    SummaryQuery<T> query(problem, part.sequence, summary, head);
    const int64_t text = part.text_offset + query.text.begin - part.text.begin;
    const int64_t summaries = part.summary_offset + query.summaries.begin - part.summaries.begin;
    query.rows[0].dk = sums.Dk(group, text);
    query.rows[0].dv = sums.Dv(group, text);
    query.rows[1].dk = sums.Dk(group, summaries);
    query.rows[1].dv = sums.Dv(group, summaries);
    BackwardSummary(problem, args, query, state);
  });
}

// Adds the parts' sums of one key row and stores them.
template <typename T>
void AddParts(const Problem<T>& problem,
              const AttentionBackwardArgs& args,
              const KeySums<T>& sums,
              int64_t row,
              int64_t group,
              BackwardState<Accumulator<T>>& state) {
  using A = Accumulator<T>;
  const SummaryLayout& layout = problem.layout;
  const bool is_summary = row >= layout.text_rows();
  const int64_t local = is_summary ? row - layout.text_rows() : row;
  const int64_t per_sequence = is_summary ? layout.live_summaries() : layout.text_tokens;
  const int64_t parts = static_cast<int64_t>(sums.parts.size()) / layout.sequences;
  const int64_t sequence = local / per_sequence;
  const auto key = static_cast<int32_t>(local % per_sequence);
  std::fill_n(state.query_rows, problem.pitch, A{0});
  std::fill_n(state.dout_rows, problem.value_pitch, A{0});
  for (int64_t i = sequence * parts; i < (sequence + 1) * parts; ++i) {
    const Part& part = sums.parts[static_cast<size_t>(i)];
    const Range keys = is_summary ? part.summaries : part.text;
    if (key >= keys.begin && key < keys.end) {
      const int64_t offset = (is_summary ? part.summary_offset : part.text_offset) + key - keys.begin;
      AddRow(A{1}, sums.Dk(group, offset), problem.pitch, state.query_rows);
      AddRow(A{1}, sums.Dv(group, offset), problem.value_pitch, state.dout_rows);
    }
  }
  const int64_t to = row * problem.groups + group;
  StoreRow(state.query_rows, problem.dim, std::numbers::ln2_v<A>, args.dk.As<T>() + to * problem.dim);
  StoreRow(state.dout_rows, problem.value_dim, A{1}, args.dv.As<T>() + to * problem.value_dim);
}

}  // namespace

template <typename T>
void Backward(const AttentionBackwardArgs& args, int threads, Allocator& scratch) {
  using A = Accumulator<T>;
  const Problem<T> problem(args, threads, scratch);
  const KeySums<T> sums(problem, scratch);
  const int64_t summary_scores = SummaryScores(problem);
  const int64_t pitch = std::max(problem.pitch, problem.value_pitch);
  const int64_t size = BackwardState<A>::Size(pitch, summary_scores);
  const Tensor memory = Tensor::Empty({threads, size}, DTypeOf<A>::value, scratch);
  const auto parts = static_cast<int64_t>(sums.parts.size());
  const int64_t key_tasks = (problem.key_rows + kKeysPerTask - 1) / kKeysPerTask;
#pragma omp parallel num_threads(threads)
  {
    BackwardState<A> state(memory.As<A>() + omp_get_thread_num() * size, pitch, summary_scores);
    // Later positions see more: the heavy parts go first.
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < parts * problem.groups; ++task) {
      const Part& part = sums.parts[static_cast<size_t>(parts - 1 - task / problem.groups)];
      BackwardPart(problem, args, part, task % problem.groups, sums, state);
    }
#pragma omp for schedule(static)
    for (int64_t task = 0; task < problem.groups * key_tasks; ++task) {
      const int64_t first = task % key_tasks * kKeysPerTask;
      for (int64_t row = first; row < std::min(first + kKeysPerTask, problem.key_rows); ++row) {
        AddParts(problem, args, sums, row, task / key_tasks, state);
      }
    }
  }
}

template void Backward<double>(const AttentionBackwardArgs&, int, Allocator&);
template void Backward<float>(const AttentionBackwardArgs&, int, Allocator&);
template void Backward<BFloat16>(const AttentionBackwardArgs&, int, Allocator&);

}  // namespace ksa::cpu_attention
