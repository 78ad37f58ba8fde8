// A run of rows of one sequence, and the chunks of 64 rows that the delta rule takes it in.
#pragma once

#include <cstdint>

#include "kernels/core/host_device.h"
#include "kernels/core/summary_layout.h"
#include "kernels/delta_rule/gated_delta_rule.h"

namespace ksa::delta_rule {

inline constexpr int32_t kChunkRows = 64;

[[nodiscard]] KSA_HOST_DEVICE inline int32_t ChunksOf(int32_t rows) {
  return (rows + kChunkRows - 1) / kChunkRows;
}

struct Slice {
  int32_t sequence = 0;
  int32_t first = 0;  // text row of the sequence, as numbered here
  int32_t rows = 0;
  int32_t origin = 0;  // the sequence's number of that row
  int64_t row = 0;     // of the matrix

  KSA_HOST_DEVICE Slice(const SummaryLayout& layout, int64_t index) {
    const bool two = SlicesOfSequence(layout) == 2;
    const int32_t cut = two ? layout.run_chunks * layout.chunk_size : layout.text_tokens;
    const bool second = two && index % 2 == 1;
    sequence = static_cast<int32_t>(two ? index / 2 : index);
    first = second ? cut : 0;
    rows = second ? layout.text_tokens - cut : cut;
    origin = layout.TokenAt(first);
    row = layout.TextRow(sequence, first);
  }

  [[nodiscard]] KSA_HOST_DEVICE int32_t chunks() const { return ChunksOf(rows); }

  // The row of the slice with which the document of row i begins; negative: before the slice.
  [[nodiscard]] KSA_HOST_DEVICE int32_t DocumentStart(const SummaryLayout& layout, int32_t i) const {
    return layout.DocumentChunk(sequence, layout.ChunkOfText(first + i)) * layout.chunk_size - origin;
  }
};

}  // namespace ksa::delta_rule
