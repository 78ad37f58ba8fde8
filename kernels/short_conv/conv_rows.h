// Which rows a row of text reads, K - 1 at most before itself, where they lie, and who reads it.
#pragma once

#include <cstdint>

#include "kernels/core/host_device.h"
#include "kernels/core/summary_layout.h"

namespace ksa {

// Rows are numbered within a sequence. The halo holds, sequence by sequence and run by run, the K - 1 tokens before the
// run's first, the nearest last; of those before the sequence's first the contents are never read.
struct ConvRows {
  SummaryLayout layout;
  int32_t reach = 0;  // K - 1

  // Runs of chunks with a gap between them: 1 or 2.
  [[nodiscard]] KSA_HOST_DEVICE int32_t runs() const {
    const bool two =
        layout.run_chunks < layout.chunks() && layout.second_chunk != layout.first_chunk + layout.run_chunks;
    return two ? 2 : 1;
  }

  [[nodiscard]] KSA_HOST_DEVICE bool IsWhole() const { return layout.total() == layout.text_tokens; }

  // 0 where whole sequences are here.
  [[nodiscard]] KSA_HOST_DEVICE int64_t halo_rows() const {
    return IsWhole() ? 0 : int64_t{1} * layout.sequences * runs() * reach;
  }

  // The rows of run `run`.
  [[nodiscard]] KSA_HOST_DEVICE Range RowsOf(int32_t run) const {
    if (runs() == 1) {
      return {0, layout.text_tokens};
    }
    const int32_t cut = layout.run_chunks * layout.chunk_size;
    return run == 0 ? Range{0, cut} : Range{cut, layout.text_tokens};
  }

  [[nodiscard]] KSA_HOST_DEVICE int32_t RunOf(int32_t i) const { return i < RowsOf(0).end ? 0 : 1; }

  // How many tokens before token i row i reads: those of its document, `reach` at most.
  [[nodiscard]] KSA_HOST_DEVICE int32_t ReachOf(int32_t sequence, int32_t i) const {
    if (layout.IsPadding(sequence, i)) {
      return 0;
    }
    const int32_t start = layout.DocumentChunk(sequence, layout.ChunkOfText(i)) * layout.chunk_size;
    const int32_t before = layout.TokenAt(i) - start;
    return before < reach ? before : reach;
  }

  // How many of the rows right behind row i, which are here, read it.
  [[nodiscard]] KSA_HOST_DEVICE int32_t ReadersOf(int32_t sequence, int32_t i) const {
    return layout.IsPadding(sequence, i) ? 0 : ReadersFrom(sequence, i + 1, RowsOf(RunOf(i)).end, 1);
  }

  // The same of the token `distance` >= 1 before run `run`: the rows from the run's first on. Of the token's own
  // distance to a reader r rows behind the run's first: distance + r.
  [[nodiscard]] KSA_HOST_DEVICE int32_t ReadersOfHalo(int32_t sequence, int32_t run, int32_t distance) const {
    return ReadersFrom(sequence, RowsOf(run).begin, RowsOf(run).end, distance);
  }

  // The row of the halo that is the token `distance` before run `run`.
  [[nodiscard]] KSA_HOST_DEVICE int64_t HaloRow(int32_t sequence, int32_t run, int32_t distance) const {
    return (int64_t{1} * sequence * runs() + run) * reach + (reach - distance);
  }

 private:
  // How many of the rows [first, end), from the first on, read the token `distance` tokens before the first.
  [[nodiscard]] KSA_HOST_DEVICE int32_t ReadersFrom(int32_t sequence,
                                                    int32_t first,
                                                    int32_t end,
                                                    int32_t distance) const {
    int32_t readers = 0;
    while (first + readers < end && ReachOf(sequence, first + readers) >= distance + readers) {
      ++readers;
    }
    return readers;
  }
};

}  // namespace ksa
