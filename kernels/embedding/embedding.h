// Token and summary embedding.
//
// Shapes: n rows of the layout, v table rows, d model dim. Text row r reads table[ids[r]]; the row of summary a of any
// chunk reads summary_table[a].
//
// 0 <= id < v. The CPU answers another id with an Error(kBadData). A GPU's ids are not seen by the host: whoever
// uploads them has checked them. There, a row with another id is NaN, so that the loss shows it, and its gradient goes
// nowhere; nothing outside the tables is read or written.
//
// The rows of the table may be spread over several parts (TableShard). Each part calls with its own rows, v of them,
// and the same ids and dy. y is then a part's share of a sum over the parts, of which all but one are zeros: a row
// whose id another part holds is zero here, and its gradient is that part's. Ids outside of the whole vocabulary stay
// what they are above.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/summary_layout.h"
#include "kernels/core/tensor.h"

namespace ksa {

// `table` holds the ids [first_id, first_id + v) of `vocab`.
struct TableShard {
  int64_t first_id = 0;
  int64_t vocab = 0;  // 0: table holds them all
};

// Where summaries start: in a table of their own, or as ids of the token table.
//
// A table of their own is the same on all parts. So that a sum over the parts has it once, one of them sets
// `contributes`; in the others summary rows are zero. Its gradient is whole on every part.
struct SummaryStart {
  static constexpr int64_t kOwnTable = -1;

  bool contributes = true;
  int64_t first_id = kOwnTable;  // else summary a is id first_id + a of the token table, spread over parts like it
};

struct EmbeddingForwardArgs {
  TensorView ids;              // [text rows] int32
  TensorView table;            // [v, d]
  TensorView summary_table{};  // [m, d]; empty when no summary row reads it
  TensorView y;                // [n, d] out
  SummaryLayout layout;
  TableShard shard{};
  SummaryStart summaries{};
};

void EmbeddingForward(const EmbeddingForwardArgs& args, const Stream& stream);

// Gradients in a fixed order of additions: rows in ascending order, whatever the number of threads (on a GPU, in
// ascending groups of ascending rows).
struct EmbeddingBackwardArgs {
  TensorView ids;               // [text rows] int32
  TensorView dy;                // [n, d]
  TensorView dtable{};          // [v, d] accumulation type, added to; or empty, where summaries have their own table
  TensorView dsummary_table{};  // [m, d] accumulation type, added to; or empty
  SummaryLayout layout;
  TableShard shard{};
  SummaryStart summaries{};
  // Of scratch on a GPU, about text rows times 16 bytes and an eighth of dy as fp32, freed before the call returns. The
  // CPU does not use it.
  Allocator* allocator = nullptr;
};

// Ids of all parts of a table with `rows` rows here.
[[nodiscard]] inline int64_t VocabularyOf(const TableShard& shard, int64_t rows) {
  return shard.vocab > 0 ? shard.vocab : rows;
}

// The summaries [begin, end) that rows of the token table start, of which `rows` are here.
[[nodiscard]] inline Range SummariesInTable(const SummaryStart& summaries,
                                            const SummaryLayout& layout,
                                            const TableShard& shard,
                                            int64_t rows) {
  if (summaries.first_id == SummaryStart::kOwnTable) {
    return {0, 0};
  }
  const int64_t row = summaries.first_id - shard.first_id;  // of summary 0
  const auto place = [&](int64_t a) { return static_cast<int32_t>(std::clamp<int64_t>(a, 0, layout.summary_tokens)); };
  return {place(-row), place(rows - row)};
}

void EmbeddingBackward(const EmbeddingBackwardArgs& args, const Stream& stream);

}  // namespace ksa
