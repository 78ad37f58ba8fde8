// The register-blocked products of the CPU attention kernels. A tile of queries is [dim][kLanes], one lane a query;
// scores and weights are [keys][kLanes]; keys, values and their gradients are rows of `pitch` elements.
//
// kCount vectors of lanes take part (1 or 2); pointers into [..][kLanes] arrays point at the first of them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/attention/cpu/vector.h"

namespace ksa::cpu_attention {

// scores[j][lane] = sum over d < dim of rows[j][d] · tile[d][lane], for `count` rows; scores has room for count rounded
// up to kBlock rows, whose contents are then undefined.
template <typename A, int kCount>
void ScoreRows(const A* rows, int64_t pitch, int64_t dim, int64_t count, const A* tile, A* scores) {
  for (int64_t j = 0; j < count; j += kBlock) {
    const A* row[kBlock];
    for (int i = 0; i < kBlock; ++i) {
      row[i] = rows + std::min<int64_t>(j + i, count - 1) * pitch;
    }
    Vec<A> sum[kBlock][kCount] = {};
    const A* queries = tile;
    for (int64_t d = 0; d < dim; ++d, queries += kLanes<A>) {
      Vec<A> query[kCount];
      for (int v = 0; v < kCount; ++v) {
        query[v] = Load(queries + v * kWidth<A>);
      }
      for (int i = 0; i < kBlock; ++i) {
        const Vec<A> key = Broadcast(row[i][d]);
        for (int v = 0; v < kCount; ++v) {
          sum[i][v] += key * query[v];
        }
      }
    }
    for (int i = 0; i < kBlock; ++i) {
      for (int v = 0; v < kCount; ++v) {
        Store(scores + (j + i) * kLanes<A> + v * kWidth<A>, sum[i][v]);
      }
    }
  }
}

// tile[d][lane] += sum over j < count of rows[j][d] · weights[j][lane], for d < dim rounded up to kBlock.
template <typename A, int kCount>
void AddToTile(const A* rows, int64_t pitch, int64_t dim, int64_t count, const A* weights, A* tile) {
  for (int64_t d = 0; d < dim; d += kBlock) {
    A* out = tile + d * kLanes<A>;
    Vec<A> sum[kBlock][kCount];
    for (int i = 0; i < kBlock; ++i) {
      for (int v = 0; v < kCount; ++v) {
        sum[i][v] = Load(out + i * kLanes<A> + v * kWidth<A>);
      }
    }
    const A* row = rows + d;
    const A* weight = weights;
    for (int64_t j = 0; j < count; ++j, row += pitch, weight += kLanes<A>) {
      Vec<A> w[kCount];
      for (int v = 0; v < kCount; ++v) {
        w[v] = Load(weight + v * kWidth<A>);
      }
      for (int i = 0; i < kBlock; ++i) {
        const Vec<A> value = Broadcast(row[i]);
        for (int v = 0; v < kCount; ++v) {
          sum[i][v] += value * w[v];
        }
      }
    }
    for (int i = 0; i < kBlock; ++i) {
      for (int v = 0; v < kCount; ++v) {
        Store(out + i * kLanes<A> + v * kWidth<A>, sum[i][v]);
      }
    }
  }
}

// out[j][d] += sum over lanes of weights[j][lane] · rows[lane][d], for kRows rows j and kCols vectors of d.
template <typename A, int kRows, int kCols>
void AddToRowsBlock(const A* weights, int lanes, const A* rows, int64_t pitch, A* out) {
  Vec<A> sum[kRows][kCols];
  for (int i = 0; i < kRows; ++i) {
    for (int c = 0; c < kCols; ++c) {
      sum[i][c] = Load(out + i * pitch + c * kWidth<A>);
    }
  }
  for (int lane = 0; lane < lanes; ++lane, rows += pitch) {
    Vec<A> row[kCols];
    for (int c = 0; c < kCols; ++c) {
      row[c] = Load(rows + c * kWidth<A>);
    }
    for (int i = 0; i < kRows; ++i) {
      const Vec<A> weight = Broadcast(weights[i * kLanes<A> + lane]);
      for (int c = 0; c < kCols; ++c) {
        sum[i][c] += weight * row[c];
      }
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int c = 0; c < kCols; ++c) {
      Store(out + i * pitch + c * kWidth<A>, sum[i][c]);
    }
  }
}

template <typename A, int kRows>
void AddToRowsStrip(const A* weights, int lanes, const A* rows, int64_t pitch, A* out) {
  int64_t d = 0;
  for (; d + 2 * kWidth<A> <= pitch; d += 2 * kWidth<A>) {
    AddToRowsBlock<A, kRows, 2>(weights, lanes, rows + d, pitch, out + d);
  }
  if (d < pitch) {
    AddToRowsBlock<A, kRows, 1>(weights, lanes, rows + d, pitch, out + d);
  }
}

// out[j][d] += sum over the lanes of kCount vectors of weights[j][lane] · rows[lane][d], for j < count and d < pitch.
template <typename A, int kCount>
void AddToRows(const A* weights, const A* rows, int64_t pitch, int64_t count, A* out) {
  constexpr int kUsed = kCount * kWidth<A>;
  int64_t j = 0;
  for (; j + kBlock <= count; j += kBlock) {
    AddToRowsStrip<A, kBlock>(weights + j * kLanes<A>, kUsed, rows, pitch, out + j * pitch);
  }
  for (; j + 2 <= count; j += 2) {
    AddToRowsStrip<A, 2>(weights + j * kLanes<A>, kUsed, rows, pitch, out + j * pitch);
  }
  if (j < count) {
    AddToRowsStrip<A, 1>(weights + j * kLanes<A>, kUsed, rows, pitch, out + j * pitch);
  }
}

}  // namespace ksa::cpu_attention
