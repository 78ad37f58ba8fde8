// How a sample's window of raw tokens becomes rows when documents are kept apart (data.document_mask: true).
//
// Rows fill in order. At each document start (the sample's start counts as one) the row index first rises to a multiple
// of k; rows skipped so are padding: token 0, no target. Filling stops at row T, what is left of the window is dropped.
// A row's target is the next raw token if that belongs to the same document.
#pragma once

#include <cstdint>
#include <span>

namespace ksa {

// The arrays of one sample, all overwritten. T = inputs.size(), C = ceil(T / k).
struct DocumentRows {
  std::span<int32_t> inputs;                // [T]
  std::span<int32_t> targets;               // [T], -1 = none
  std::span<int32_t> document_first_chunk;  // [C] first chunk of the chunk's document
  std::span<int32_t> chunk_tokens;          // [C] real tokens of the chunk
};

struct FillResult {
  int64_t targets = 0;  // rows with a target
  int64_t dropped = 0;  // of the window's first T tokens, those without a row
};

// window: the sample's T+1 raw tokens. `starts`: positions in (0, T] of the window at which a document starts, rising.
[[nodiscard]] FillResult FillDocumentRows(std::span<const int32_t> window,
                                          std::span<const int64_t> starts,
                                          int32_t chunk_size,
                                          const DocumentRows& rows);

}  // namespace ksa
