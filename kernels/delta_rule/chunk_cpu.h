// One chunk of rows of the gated delta rule, for one value head, in the accumulation type. Internal to the family.
//
// Letters, of a chunk of r rows with the state S0 that comes in and S1 that leaves: b the running sum of g within a
// document, D[i][j] the decay e^(b_i - b_j) from row j to row i of its document, N the writes u, P = tril(Q K^T) * D,
// C = stril(K K^T) * D:
//
//   E = V - e^b K S0 - C N,  N = beta E      (row by row: C is strictly lower triangular)
//   O = e^b Q S0 + P N                       S1 = e^(b_last) S0 + (e^(b_last - b) K)^T N
//
// with the terms of S0 only in rows whose document began before the chunk, and in S1 only what belongs to the last
// row's document. Only differences b_i - b_j <= 0 are exponentiated: b itself may be -1000.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/core/summary_layout.h"
#include "kernels/core/vector_math.h"
#include "kernels/delta_rule/gated_delta_rule.h"
#include "kernels/delta_rule/slice.h"

namespace ksa::cpu::delta_rule {

using ksa::delta_rule::kChunkRows;
using ksa::delta_rule::Slice;

// A matrix as rows and columns lie in memory.
template <typename A>
struct Strided {
  const A* data;
  int64_t row;
  int64_t column;

  [[nodiscard]] const A& At(int64_t i, int64_t j) const { return data[i * row + j * column]; }
};

template <typename A>
[[nodiscard]] Strided<A> Of(const A* data, int64_t columns) {
  return {data, columns, 1};
}

template <typename A>
[[nodiscard]] Strided<A> Transposed(const A* data, int64_t columns) {
  return {data, 1, columns};
}

// c [rows, columns] += a [rows, depth] · b [depth, columns], with c and b dense. Sums go over depth in order, in fours.
template <typename A>
void AddProduct(int64_t rows, int64_t columns, int64_t depth, const Strided<A>& a, const A* b, A* c) {
  for (int64_t i = 0; i < rows; ++i) {
    A* to = c + i * columns;
    int64_t p = 0;
    for (; p + 4 <= depth; p += 4) {
      const A a0 = a.At(i, p);
      const A a1 = a.At(i, p + 1);
      const A a2 = a.At(i, p + 2);
      const A a3 = a.At(i, p + 3);
      const A* b0 = b + p * columns;
      const A* b1 = b0 + columns;
      const A* b2 = b1 + columns;
      const A* b3 = b2 + columns;
#pragma omp simd
      for (int64_t j = 0; j < columns; ++j) {
        to[j] += (a0 * b0[j] + a1 * b1[j]) + (a2 * b2[j] + a3 * b3[j]);
      }
    }
    for (; p < depth; ++p) {
      const A factor = a.At(i, p);
      const A* from = b + p * columns;
#pragma omp simd
      for (int64_t j = 0; j < columns; ++j) {
        to[j] += factor * from[j];
      }
    }
  }
}

template <typename A>
void SetProduct(int64_t rows, int64_t columns, int64_t depth, const Strided<A>& a, const A* b, A* c) {
  std::fill_n(c, rows * columns, A{});
  AddProduct(rows, columns, depth, a, b, c);
}

template <typename A>
[[nodiscard]] A DotOf(const A* a, const A* b, int64_t count) {
  return SumOf<A>(count, [&](int64_t i) { return a[i] * b[i]; });
}

// to[i][j] *= factor[i]
template <typename A>
void ScaleRows(int64_t rows, int64_t columns, const A* factor, A* to) {
  for (int64_t i = 0; i < rows; ++i) {
#pragma omp simd
    for (int64_t j = 0; j < columns; ++j) {
      to[i * columns + j] *= factor[i];
    }
  }
}

template <typename A>
class Chunk {
 public:
  Chunk(int64_t key_dim, int64_t value_dim, A* memory) : dk(key_dim), dv(value_dim) {
    const auto take = [&](int64_t size) {
      A* at = memory;
      memory += size;
      return at;
    };
    q = take(kChunkRows * dk);
    k = take(kChunkRows * dk);
    kt = take(kChunkRows * dk);
    e = take(kChunkRows * dv);
    n = take(kChunkRows * dv);
    p = take(kChunkRows * kChunkRows);
    c = take(kChunkRows * kChunkRows);
    decayed_k = take(kChunkRows * dk);
  }

  // Elements of the memory that it works in.
  [[nodiscard]] static int64_t Size(int64_t key_dim, int64_t value_dim) {
    return kChunkRows * (4 * key_dim + 2 * value_dim + 2 * kChunkRows);
  }

  // Rows [first, first + rows) of `slice`: what they see of each other, from g, beta and the layout. g and beta have
  // `pitch` elements a row.
  void Begin(
      const SummaryLayout& layout, const Slice& slice, int32_t first, const A* g, const A* beta_of, int64_t pitch) {
    begin = first;
    rows = std::min(kChunkRows, slice.rows - first);
    double sum = 0.0;
    for (int32_t i = 0; i < rows; ++i) {
      padding[i] = layout.IsPadding(slice.sequence, slice.first + first + i);
      start[i] = slice.DocumentStart(layout, first + i);
      sum = i > 0 && start[i] != start[i - 1] ? 0.0 : sum;  // so that no document's rounding depends on another
      sum += padding[i] ? 0.0 : static_cast<double>(g[i * pitch]);
      b[i] = sum;
      beta[i] = padding[i] ? A{} : beta_of[i * pitch];
    }
    for (int32_t i = 0; i < rows; ++i) {
      from_state[i] = Sees(i) ? Exp(static_cast<A>(b[i])) : A{};
      to_state[i] = start[i] == start[rows - 1] ? Exp(static_cast<A>(b[rows - 1] - b[i])) : A{};
    }
    state_kept = Sees(rows - 1) ? Exp(static_cast<A>(b[rows - 1])) : A{};
  }

  // Whether row i's document began before the chunk.
  [[nodiscard]] bool Sees(int32_t i) const { return start[i] < begin; }

  // Loads `rows` rows of `columns` elements, `pitch` apart, times `scale`; padding rows are 0.
  template <typename T>
  void Load(const T* from, int64_t pitch, int64_t columns, A scale, A* to) const {
    for (int32_t i = 0; i < rows; ++i) {
      const A factor = padding[i] ? A{} : scale;
#pragma omp simd
      for (int64_t j = 0; j < columns; ++j) {
        to[i * columns + j] = factor * static_cast<A>(from[i * pitch + j]);
      }
    }
  }

  // From q, k and e (which holds v): the decays, the writes n and e, for the state s0 [dk, dv].
  void Solve(bool with_queries, const A* s0) {
    for (int32_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < dk; ++j) {
        kt[j * rows + i] = k[i * dk + j];
        decayed_k[i * dk + j] = -from_state[i] * k[i * dk + j];
      }
    }
    SetProduct(rows, rows, dk, Of(k, dk), kt, c);
    Decay(false, A{-1}, c);
    if (with_queries) {
      SetProduct(rows, rows, dk, Of(q, dk), kt, p);
      Decay(true, A{1}, p);
    }
    AddProduct(rows, dv, dk, Of(decayed_k, dk), s0, e);
    for (int32_t i = 0; i < rows; ++i) {
      AddProduct(1, dv, i, Of(c + int64_t{i} * rows, rows), n, e + i * dv);
#pragma omp simd
      for (int64_t j = 0; j < dv; ++j) {
        n[i * dv + j] = beta[i] * e[i * dv + j];
      }
    }
  }

  // out [rows, dv], from the state that came in.
  void Read(const A* s0, A* out) {
    for (int32_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < dk; ++j) {
        decayed_k[i * dk + j] = from_state[i] * q[i * dk + j];
      }
    }
    SetProduct(rows, dv, dk, Of(decayed_k, dk), s0, out);
    AddProduct(rows, dv, rows, Of(p, rows), n, out);
  }

  // The state that leaves, in place of the one that came in.
  void Advance(A* state) {
    for (int64_t i = 0; i < dk * dv; ++i) {
      state[i] *= state_kept;
    }
    for (int32_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < dk; ++j) {
        decayed_k[i * dk + j] = to_state[i] * k[i * dk + j];
      }
    }
    AddProduct(dk, dv, rows, Transposed(decayed_k, dk), n, state);
  }

  // x[i][j] *= factor times the decay from row j to row i; 0 above the diagonal, on it unless `diagonal`, and between
  // documents.
  void Decay(bool diagonal, A factor, A* x) const {
    for (int32_t i = 0; i < rows; ++i) {
      const int32_t end = diagonal ? i + 1 : i;
      A* row = x + int64_t{i} * rows;
      for (int32_t j = 0; j < end; ++j) {
        row[j] *= start[j] == start[i] ? factor * Exp(static_cast<A>(b[i] - b[j])) : A{};
      }
      std::fill(row + end, row + rows, A{});
    }
  }

  int64_t dk;
  int64_t dv;
  int32_t begin = 0;  // of the slice
  int32_t rows = 0;
  bool padding[kChunkRows];
  int32_t start[kChunkRows];  // of the row's document, in rows of the slice
  double b[kChunkRows];       // in double: differences of large sums are what counts
  A beta[kChunkRows];
  A from_state[kChunkRows];  // e^b, or 0 where the row's document began in the chunk
  A to_state[kChunkRows];    // e^(b_last - b), or 0 where the row's document is not the last one
  A state_kept{};            // of the state that came in
  A* q;                      // [rows, dk], scaled
  A* k;                      // [rows, dk]
  A* kt;                     // [dk, rows]
  A* e;                      // [rows, dv]: v, then v minus what the state predicts
  A* n;                      // [rows, dv]: beta e
  A* p;                      // [rows, rows]
  A* c;                      // [rows, rows], negated
  A* decayed_k;              // [rows, dk]: of keys, or of queries
};

}  // namespace ksa::cpu::delta_rule
