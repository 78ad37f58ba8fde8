// Which rows of a layout the queries of an attention call are, and where q, out, lse, dout and dq hold them.
#pragma once

#include <cstdint>

#include "kernels/core/host_device.h"
#include "kernels/core/summary_layout.h"

namespace ksa {

struct QueryRows {
  Range text;                  // of each sequence; empty: q holds summaries alone
  int32_t summary_chunks = 0;  // chunks of each sequence whose summaries are queries
  int32_t summaries = 0;       // the same in rows
  int64_t text_rows = 0;       // rows of q that are text; the summaries lie behind them

  // Row of q that holds text row i of the layout, which is one of `text`.
  [[nodiscard]] KSA_HOST_DEVICE int64_t TextRow(int32_t sequence, int64_t i) const {
    return int64_t{1} * sequence * text.size() + i - text.begin;
  }

  // Row of q that holds summary `summary` = c·m + a, c the place of its chunk.
  [[nodiscard]] KSA_HOST_DEVICE int64_t SummaryRow(int32_t sequence, int32_t summary) const {
    return text_rows + int64_t{1} * sequence * summaries + summary;
  }
};

// Of the arguments of AttentionForward or AttentionBackward, which have been checked.
template <typename Args>
[[nodiscard]] QueryRows QueryRowsOf(const Args& args) {
  QueryRows rows;
  if (args.text_queries) {
    rows.text = args.layout.Queries();
    rows.text_rows = args.layout.query_rows();
  }
  if (args.q.rows() > rows.text_rows) {
    rows.summary_chunks = args.layout.live_chunks;
    rows.summaries = args.layout.live_summaries();
  }
  return rows;
}

}  // namespace ksa
