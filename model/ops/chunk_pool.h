// Entries that stand for chunks: rows of text pooled into one a chunk. See kernels/pool/chunk_pool.h.
#pragma once

#include <array>

#include "kernels/core/summary_layout.h"
#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"

namespace ksa {

struct ChunkPoolSpec {
  SummaryLayout layout;       // with an entry for each summary row, one a chunk
  Parameter* bias = nullptr;  // [k, c]
};

// gate and x [rows, c], text rows from the first on, at least those of chunks with entries; x[1] may be without a value
// -> [entries, c] of each x. Tensor axis: Sharded(1), as the bias; passed on. A chunk lies on one context rank, and so
// do its rows.
[[nodiscard]] std::array<Var, 2> ChunkPool(const ExecContext& cx,
                                           const Var& gate,
                                           const std::array<Var, 2>& x,
                                           const ChunkPoolSpec& spec);

}  // namespace ksa
