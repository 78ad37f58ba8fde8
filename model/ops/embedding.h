// Token and summary embedding.
#pragma once

#include "kernels/core/summary_layout.h"
#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"

namespace ksa {

// ids [text rows] int32 -> [rows, d], summary rows included. `summary_table` [m, d] starts the summaries; null: rows
// vocab_size .. vocab_size + m - 1 of `table` do.
//
// Tensor axis: a table Sharded(0) (by vocabulary) gives Partial, of which each id's rank has the row, and rank 0 those
// of `summary_table`, which is Replicated. The gradient that arrives is whole on every rank: each has the whole
// gradient of its rows and of `summary_table`, and nothing is reduced. A Replicated table gives Replicated.
struct EmbeddingSpec {
  SummaryLayout layout;
  Parameter* table = nullptr;          // [v, d], or this rank's part
  Parameter* summary_table = nullptr;  // [m, d]
  int64_t vocab_size = 0;              // ids of text; first of the extra rows
};

[[nodiscard]] Var Embedding(const ExecContext& cx, const Tensor& ids, const EmbeddingSpec& spec);

}  // namespace ksa
