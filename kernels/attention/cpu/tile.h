// What forward and backward share: the problem with its keys and values laid out by head, and tiles of text queries.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "kernels/attention/cpu/vector.h"
#include "kernels/attention/query_rows.h"
#include "kernels/core/allocator.h"
#include "kernels/core/dtype.h"
#include "kernels/core/summary_layout.h"
#include "kernels/core/tensor.h"

namespace ksa::cpu_attention {

inline int64_t RoundUp(int64_t x, int64_t multiple) {
  return (x + multiple - 1) / multiple * multiple;
}

inline Range Intersect(Range a, Range b) {
  return {std::max(a.begin, b.begin), std::min(a.end, b.end)};
}

// The smallest range that holds both; an empty range counts for nothing.
inline Range Hull(Range a, Range b) {
  if (a.size() == 0 || b.size() == 0) {
    return a.size() == 0 ? b : a;
  }
  return {std::min(a.begin, b.begin), std::max(a.end, b.end)};
}

// Elements of a padded row: whole vectors and whole blocks of head dims.
template <typename A>
int64_t Pitch(int64_t dim) {
  return RoundUp(dim, std::max(kWidth<A>, kBlock));
}

// Keys that one text query sees.
struct RowKeys {
  Range text;
  Range summaries;
};

static_assert(sizeof(RowKeys) == 4 * sizeof(int32_t));

// to[0, pitch) = from[0, dim) · scale, then zeros.
template <typename T, typename A>
inline void LoadRow(const T* from, int64_t dim, A scale, int64_t pitch, A* to) {
  for (int64_t i = 0; i < dim; ++i) {
    to[i] = static_cast<A>(from[i]) * scale;
  }
  for (int64_t i = dim; i < pitch; ++i) {
    to[i] = 0;
  }
}

template <typename T, typename A>
inline void StoreRow(const A* from, int64_t dim, A scale, T* to) {
  for (int64_t i = 0; i < dim; ++i) {
    to[i] = static_cast<T>(from[i] * scale);
  }
}

// Shapes, visible ranges of every text query, and copies of k as [g, nk, pitch] and of v as [g, nk, value_pitch].
template <typename T>
class Problem {
 public:
  using A = Accumulator<T>;

  template <typename Args>
  Problem(const Args& args, int threads, Allocator& scratch);

  // `position`: a text row of the sequence that is a query.
  [[nodiscard]] const RowKeys& KeysOf(int32_t sequence, int64_t position) const {
    return row_keys_[queries.TextRow(sequence, position)];
  }

  // The first text (or summary) key and value of a sequence.
  [[nodiscard]] const A* TextKey(int32_t sequence, int64_t group) const {
    return keys_.template As<A>() + (group * key_rows + layout.TextRow(sequence, 0)) * pitch;
  }

  [[nodiscard]] const A* SummaryKey(int32_t sequence, int64_t group) const {
    return keys_.template As<A>() + (group * key_rows + layout.SummaryRow(sequence, 0)) * pitch;
  }

  [[nodiscard]] const A* TextValue(int32_t sequence, int64_t group) const {
    return values_.template As<A>() + (group * key_rows + layout.TextRow(sequence, 0)) * value_pitch;
  }

  [[nodiscard]] const A* SummaryValue(int32_t sequence, int64_t group) const {
    return values_.template As<A>() + (group * key_rows + layout.SummaryRow(sequence, 0)) * value_pitch;
  }

  SummaryLayout layout;
  QueryRows queries;
  int64_t heads;           // h
  int64_t groups;          // g
  int64_t queries_per_kv;  // query heads that read one key/value head
  int64_t dim;             // e
  int64_t value_dim;       // c
  int64_t pitch;           // elements of a padded row of keys or queries
  int64_t value_pitch;     // of values or outputs
  int64_t key_rows;        // nk
  A scale;                 // of scores
  A log2_scale;            // the same for exponentials of base 2

 private:
  Tensor row_keys_tensor_;
  RowKeys* row_keys_;
  Tensor keys_;
  Tensor values_;
};

template <typename T>
template <typename Args>
Problem<T>::Problem(const Args& args, int threads, Allocator& scratch)
    : layout(args.layout),
      queries(QueryRowsOf(args)),
      heads(args.q.shape[1]),
      groups(args.k.shape[1]),
      queries_per_kv(heads / groups),
      dim(args.q.shape[2]),
      value_dim(args.v.shape[2]),
      pitch(Pitch<A>(dim)),
      value_pitch(Pitch<A>(value_dim)),
      key_rows(args.k.rows()),
      scale(args.scale > 0.0 ? static_cast<A>(args.scale) : 1 / std::sqrt(static_cast<A>(dim))),
      log2_scale(scale * std::numbers::log2e_v<A>),
      row_keys_tensor_(Tensor::Empty({queries.text_rows, 4}, DType::kI32, scratch)),
      row_keys_(reinterpret_cast<RowKeys*>(row_keys_tensor_.As<int32_t>())),
      keys_(Tensor::Empty({groups, key_rows, pitch}, DTypeOf<A>::value, scratch)),
      values_(Tensor::Empty({groups, key_rows, value_pitch}, DTypeOf<A>::value, scratch)) {
  const T* k = args.k.template As<T>();
  const T* v = args.v.template As<T>();
  A* keys = keys_.As<A>();
  A* values = values_.As<A>();
  const AttentionWindow window = args.window;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t row = 0; row < key_rows; ++row) {
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t from = row * groups + group;
      const int64_t to = group * key_rows + row;
      LoadRow(k + from * dim, dim, A{1}, pitch, keys + to * pitch);
      LoadRow(v + from * value_dim, value_dim, A{1}, value_pitch, values + to * value_pitch);
    }
    if (row < layout.text_rows()) {
      const auto sequence = static_cast<int32_t>(row / layout.text_tokens);
      const auto i = static_cast<int32_t>(row % layout.text_tokens);
      if (i >= queries.text.begin && i < queries.text.end) {
        row_keys_[queries.TextRow(sequence, i)] = {layout.TextKeys(window, sequence, i),
                                                   layout.SummaryKeys(window, sequence, i)};
      }
    }
  }
}

// Keys of one kind (text or summaries) that the lanes of a tile see.
template <typename A>
struct KeySpan {
  alignas(kVectorBytes) typename Simd<A>::Index begin[kLanes<A>];
  alignas(kVectorBytes) typename Simd<A>::Index end[kLanes<A>];
  Range any[kVectors];  // by vector: the hull of its lanes' ranges
  Range all[kVectors];  // by vector: what every lane sees

  void Set(int lane, Range range) {
    begin[lane] = range.begin;
    end[lane] = range.end;
    const int v = lane / kWidth<A>;
    if (lane % kWidth<A> == 0) {
      any[v] = all[v] = range;
    } else {
      any[v] = Hull(any[v], range);
      all[v] = Intersect(all[v], range);
    }
  }

  // All ones in the lanes of vector v that see key j.
  [[nodiscard]] typename Simd<A>::Int Sees(int v, int32_t j) const {
    using Int = typename Simd<A>::Int;
    const Int first = *reinterpret_cast<const Int*>(begin + v * kWidth<A>);
    const Int last = *reinterpret_cast<const Int*>(end + v * kWidth<A>);
    return (first <= j) & (last > j);
  }
};

// Up to kLanes consecutive query rows of one sequence and key/value head, counted as position · queries_per_kv + head.
// Lanes behind the last row see what it sees, so that they cost no masking; nothing of them is kept.
template <typename T>
struct QueryTile {
  using A = Accumulator<T>;

  QueryTile(const Problem<T>& problem, int32_t tile_sequence, int64_t tile_group, int64_t first, int64_t last)
      : sequence(tile_sequence), group(tile_group), rows(static_cast<int>(std::min<int64_t>(last - first, kLanes<A>))) {
    int64_t position = first / problem.queries_per_kv;
    int64_t head = first % problem.queries_per_kv;
    for (int lane = 0; lane < kLanes<A>; ++lane) {
      const RowKeys& keys = problem.KeysOf(sequence, position);
      text.Set(lane, keys.text);
      summaries.Set(lane, keys.summaries);
      index[lane] = problem.queries.TextRow(sequence, position) * problem.heads + group * problem.queries_per_kv + head;
      if (lane + 1 < rows && ++head == problem.queries_per_kv) {
        head = 0;
        ++position;
      }
    }
  }

  // Lane l of `to` [kLanes, pitch] = row l of the tile, of `dim` elements, · factor; zeros behind the last row.
  void Load(const T* from, int64_t dim, A factor, int64_t pitch, A* to) const {
    for (int lane = 0; lane < kLanes<A>; ++lane, to += pitch) {
      LoadRow(from + index[lane] * dim, lane < rows ? dim : 0, factor, pitch, to);
    }
  }

  void Store(const A* from, int64_t pitch, int64_t dim, A factor, T* to) const {
    for (int lane = 0; lane < rows; ++lane, from += pitch) {
      StoreRow(from, dim, factor, to + index[lane] * dim);
    }
  }

  int32_t sequence;
  int64_t group;
  int rows;
  int64_t index[kLanes<A>];  // row of q · h + head: where a lane's row lies in q, out and lse
  KeySpan<A> text;
  KeySpan<A> summaries;
};

// Calls visit.operator()<kCount>(v, keys) for strips of keys that the vectors v .. v + kCount - 1 of a tile see, so
// that together they cover ranges[0] and ranges[1]. Strips of one vector come in the order of their keys.
template <typename Visit>
void ForEachStrip(const Range (&ranges)[kVectors], Visit visit) {
  const auto one = [&](int v, Range keys) {
    if (keys.size() > 0) {
      visit.template operator()<1>(v, keys);
    }
  };
  const Range both = Intersect(ranges[0], ranges[1]);
  if (both.size() == 0) {
    one(0, ranges[0]);
    one(1, ranges[1]);
    return;
  }
  one(0, {ranges[0].begin, both.begin});
  one(1, {ranges[1].begin, both.begin});
  visit.template operator()<2>(0, both);
  one(0, {both.end, ranges[0].end});
  one(1, {both.end, ranges[1].end});
}

// Calls visit(keys, ranges) for stretches of at most `most` keys (a multiple of kBlock), of nearly equal size, that
// cover what any lane sees; ranges[v] is the part of `keys` that vector v sees.
template <typename A, typename Visit>
void ForEachKeyTile(const KeySpan<A>& span, int32_t most, Visit visit) {
  const Range hull = Hull(span.any[0], span.any[1]);
  if (hull.size() == 0) {
    return;
  }
  const int32_t tiles = (hull.size() + most - 1) / most;
  const auto step = static_cast<int32_t>(RoundUp((hull.size() + tiles - 1) / tiles, kBlock));
  for (int32_t begin = hull.begin; begin < hull.end; begin += step) {
    const Range keys = {begin, std::min(begin + step, hull.end)};
    const Range ranges[kVectors] = {Intersect(span.any[0], keys), Intersect(span.any[1], keys)};
    visit(keys, ranges);
  }
}

}  // namespace ksa::cpu_attention
