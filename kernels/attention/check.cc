#include "kernels/attention/check.h"

#include <algorithm>

#include "kernels/core/error.h"

namespace ksa {
namespace {

void CheckSizes(const SummaryLayout& layout) {
  const int32_t most = layout.gathered_summaries ? layout.total_chunks() : layout.chunks();
  KSA_CHECK(layout.sequences >= 0 && layout.text_tokens >= 0 && layout.chunk_size >= 1 && layout.summary_tokens >= 0 &&
                layout.live_chunks >= 0 && layout.live_chunks <= most,
            "attention: no layout has {} sequences of {} tokens, chunks of {} with {} summaries, {} live chunks",
            layout.sequences,
            layout.text_tokens,
            layout.chunk_size,
            layout.summary_tokens,
            layout.live_chunks);
}

// The layout's chunks are one or two runs of the sequence's, in order, and its last row ends the last of them.
void CheckRuns(const SummaryLayout& layout) {
  const int32_t chunks = layout.chunks();
  if (chunks == 0) {
    return;
  }
  const int32_t first_run = std::min(layout.run_chunks, chunks);
  const int64_t first_end = int64_t{1} * layout.first_chunk + first_run;
  const bool two = first_run < chunks;
  const int64_t end = two ? int64_t{1} * layout.second_chunk + (chunks - first_run) : first_end;
  KSA_CHECK(layout.first_chunk >= 0 && layout.run_chunks >= 0 && (!two || layout.second_chunk >= first_end) &&
                end <= layout.total_chunks(),
            "attention: {} chunks from {} on and {} from {} on are no two runs of a sequence of {} chunks, one behind "
            "the other",
            first_run,
            layout.first_chunk,
            chunks - first_run,
            layout.second_chunk,
            layout.total_chunks());
  const int64_t last = (end - 1) * layout.chunk_size;  // the sequence's token that starts the last chunk
  const int64_t expected =
      int64_t{chunks - 1} * layout.chunk_size + std::min<int64_t>(layout.chunk_size, layout.total() - last);
  KSA_CHECK(layout.text_tokens == expected,
            "attention: {} rows of text end inside a chunk that goes on; a part of a sequence of {} tokens that ends "
            "there has {}",
            layout.text_tokens,
            layout.total(),
            expected);
}

void CheckWindow(const AttentionWindow& window) {
  KSA_CHECK(window.chunks >= 0 && window.tokens >= 1,
            "attention: a window of {} chunks and {} tokens; expected at least 0 and 1",
            window.chunks,
            window.tokens);
}

bool IsWhole(const SummaryLayout& layout) {
  return layout.total() == layout.text_tokens;
}

// Text queries and their keys are numbered as if nothing lay between them.
void CheckTextIsOneRun(const SummaryLayout& layout) {
  KSA_CHECK(layout.run_chunks >= layout.chunks() || layout.second_chunk == layout.first_chunk + layout.run_chunks,
            "attention: text queries of two runs of chunks in one call; make a call of each");
}

void CheckQueryRange(const SummaryLayout& layout) {
  const bool to_the_end = layout.query_end == INT32_MAX;
  KSA_CHECK(layout.query_begin >= 0 && layout.query_begin <= layout.Queries().end &&
                (to_the_end || layout.query_end <= layout.text_tokens),
            "attention: queries [{}, {}) of {} rows of text",
            layout.query_begin,
            layout.query_end,
            layout.text_tokens);
}

// What the first query sees begins first.
void CheckHalo(const SummaryLayout& layout, const AttentionWindow& window) {
  if (layout.Queries().size() == 0) {
    return;
  }
  const int64_t query = int64_t{1} * layout.first_chunk * layout.chunk_size + layout.query_begin;
  const int64_t by_chunks = (query / layout.chunk_size - window.chunks) * layout.chunk_size;
  const int64_t needed = std::max<int64_t>({0, by_chunks, query - window.tokens + 1});
  KSA_CHECK(int64_t{1} * layout.first_chunk * layout.chunk_size <= needed,
            "attention: the queries see the sequence's tokens from {} on, but its text is here only from chunk {} on",
            needed,
            layout.first_chunk);
}

void CheckVisibleSummaries(const AttentionRows& rows) {
  const SummaryLayout& layout = rows.layout;
  if (!rows.window.summaries || layout.summary_tokens == 0 || layout.Queries().size() == 0) {
    return;
  }
  const int32_t live = LiveChunks(layout, rows.window);
  KSA_CHECK(layout.live_chunks >= live,
            "attention: text sees the summaries of {} chunks but only {} are live; live_chunks must come from the "
            "smallest window of the model",
            live,
            layout.live_chunks);
  KSA_CHECK(live == 0 || rows.key_rows == layout.rows(),
            "attention: text sees summaries but k and v hold text rows only");
  KSA_CHECK(live == 0 || layout.gathered_summaries || IsWhole(layout),
            "attention: text of a part of a sequence sees the summaries of all of it; gather them");
}

void CheckKeys(const AttentionRows& rows) {
  const SummaryLayout& layout = rows.layout;
  KSA_CHECK(rows.key_rows == layout.rows() || rows.key_rows == layout.text_rows(),
            "attention: k and v have {} rows; the layout has {} rows, {} of text",
            rows.key_rows,
            layout.rows(),
            layout.text_rows());
}

void CheckSummaryCall(const AttentionRows& rows) {
  const SummaryLayout& layout = rows.layout;
  KSA_CHECK(!layout.gathered_summaries,
            "attention: gathered summaries are no queries; the summaries that are go with the text of their chunks");
  KSA_CHECK(layout.AllTextIsQuery(), "attention: a range of text queries, but text_queries is false");
  KSA_CHECK(rows.query_rows == layout.summary_rows(),
            "attention: q has {} rows; the layout has {} rows of summaries, which alone are queries",
            rows.query_rows,
            layout.summary_rows());
  KSA_CHECK(rows.key_rows == layout.rows(), "attention: q holds summary rows but k and v hold text rows only");
}

void CheckTextCall(const AttentionRows& rows) {
  const SummaryLayout& layout = rows.layout;
  KSA_CHECK(layout.sequences == 1,
            "attention: text queries of parts of {} sequences in one call; make a call of each",
            layout.sequences);
  CheckHalo(layout, rows.window);
  KSA_CHECK(rows.query_rows == layout.query_rows(),
            "attention: q has {} rows; the layout has {} text queries, and a part of a sequence no others in the same "
            "call",
            rows.query_rows,
            layout.query_rows());
}

void CheckWholeCall(const AttentionRows& rows) {
  const SummaryLayout& layout = rows.layout;
  KSA_CHECK(rows.query_rows == layout.rows() || rows.query_rows == layout.text_rows(),
            "attention: q has {} rows; the layout has {} rows, {} of text",
            rows.query_rows,
            layout.rows(),
            layout.text_rows());
  KSA_CHECK(rows.query_rows <= rows.key_rows, "attention: q holds summary rows but k and v hold text rows only");
}

}  // namespace

void CheckAttentionRows(const AttentionRows& rows) {
  const SummaryLayout& layout = rows.layout;
  CheckSizes(layout);
  CheckRuns(layout);
  CheckWindow(rows.window);
  CheckKeys(rows);
  if (!rows.text_queries) {
    CheckSummaryCall(rows);
    return;
  }
  CheckTextIsOneRun(layout);
  CheckQueryRange(layout);
  if (IsWhole(layout) && layout.AllTextIsQuery() && !layout.gathered_summaries) {
    CheckWholeCall(rows);
  } else {
    CheckTextCall(rows);
  }
  CheckVisibleSummaries(rows);
}

}  // namespace ksa
