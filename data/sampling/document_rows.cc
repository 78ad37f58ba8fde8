#include "data/sampling/document_rows.h"

#include <algorithm>

#include "kernels/core/error.h"

namespace ksa {

FillResult FillDocumentRows(std::span<const int32_t> window,
                            std::span<const int64_t> starts,
                            int32_t chunk_size,
                            const DocumentRows& rows) {
  const auto length = static_cast<int64_t>(rows.inputs.size());
  KSA_CHECK(
      static_cast<int64_t>(window.size()) == length + 1, "a window of {} tokens for {} rows", window.size(), length);
  std::fill(rows.inputs.begin(), rows.inputs.end(), 0);
  std::fill(rows.targets.begin(), rows.targets.end(), -1);
  FillResult result;
  int64_t row = 0;
  int64_t position = 0;  // in the window
  for (size_t document = 0; document <= starts.size(); ++document) {
    const int64_t end = document < starts.size() ? starts[document] : length + 1;  // of this document, in the window
    row = (row + chunk_size - 1) / chunk_size * chunk_size;
    const int64_t filled = std::max<int64_t>(0, std::min(end - position, length - row));
    for (int64_t i = 0; i < filled; ++i) {
      rows.inputs[static_cast<size_t>(row + i)] = window[static_cast<size_t>(position + i)];
    }
    const int64_t with_target = std::min(filled, end - position - 1);
    for (int64_t i = 0; i < with_target; ++i) {
      rows.targets[static_cast<size_t>(row + i)] = window[static_cast<size_t>(position + i + 1)];
    }
    const int64_t first_chunk = row / chunk_size;
    for (int64_t i = 0; i < filled; i += chunk_size) {
      const auto chunk = static_cast<size_t>(first_chunk + i / chunk_size);
      rows.document_first_chunk[chunk] = static_cast<int32_t>(first_chunk);
      rows.chunk_tokens[chunk] = static_cast<int32_t>(std::min<int64_t>(chunk_size, filled - i));
    }
    result.targets += with_target;
    position += filled;
    row += filled;
    if (position < end) {
      break;
    }
  }
  result.dropped = length - position;
  return result;
}

}  // namespace ksa
