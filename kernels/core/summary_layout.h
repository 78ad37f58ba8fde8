// SummaryLayout: where the rows of a batch lie, at which position each stands, and who sees whom.
//
// A rank's activations are one matrix of rows: the text rows of all its sequences first, then the summary rows.
//
//   row of text token i of sequence q                 q·T + i
//   row of summary a of chunk c of sequence q         b·T + (q·live_chunks + c)·m + a
//
// with b sequences of T text tokens, chunks of k text tokens and m summary tokens a chunk. Summaries that no text of
// the sequence can ever see are dead and have no row: only the first `live_chunks` chunks of a sequence have summary
// rows. Everything here is arithmetic on a small value type that host and device share; nothing is stored per row.
//
// Source of the rules: docs/ksa.md (Kwai Summary Attention, arXiv 2604.24432).
#pragma once

#include <cstdint>

#include "kernels/core/host_device.h"

namespace ksa {

// kZero: no position at all, for a rotation by position 0 turns nothing.
enum class TextPositions : int { kOrigin, kInnerChunk, kZero };
enum class SummaryPositions : int { kChunkEnd, kChunkStart, kZero };

// A half-open range.
struct Range {
  int32_t begin = 0;
  int32_t end = 0;

  [[nodiscard]] KSA_HOST_DEVICE int32_t size() const { return end > begin ? end - begin : 0; }
};

// What the text of one layer sees.
struct AttentionWindow {
  // A window that no sequence reaches the end of.
  static constexpr int32_t kUnlimited = INT32_MAX;

  int32_t chunks = kUnlimited;  // w: earlier chunks whose text is visible (ksa, sca)
  int32_t tokens = kUnlimited;  // text keys a query sees, itself included (swa)
  bool summaries = false;       // whether text sees the summaries of the chunks before its chunk window (ksa)
  bool overlap = false;         // ... of every chunk that ends at or before it instead, in its window too (hca)

  static KSA_HOST_DEVICE AttentionWindow Ksa(int32_t chunks) { return {chunks, kUnlimited, true}; }

  static KSA_HOST_DEVICE AttentionWindow Hca(int32_t chunks, bool overlap) {
    return {chunks, kUnlimited, true, overlap};
  }

  static KSA_HOST_DEVICE AttentionWindow Full() { return {}; }

  static KSA_HOST_DEVICE AttentionWindow SlidingTokens(int32_t tokens) { return {kUnlimited, tokens, false}; }

  static KSA_HOST_DEVICE AttentionWindow SlidingChunks(int32_t chunks) { return {chunks, kUnlimited, false}; }

  friend KSA_HOST_DEVICE bool operator==(const AttentionWindow& a, const AttentionWindow& b) {
    return a.chunks == b.chunks && a.tokens == b.tokens && a.summaries == b.summaries && a.overlap == b.overlap;
  }
};

// One row of one sequence, as numbered here: a text token, or a summary of a chunk.
struct RowId {
  bool is_summary = false;
  int32_t index = 0;  // text: i in [0, T); summary: c·m + a, c the place of its chunk
};

struct SummaryLayout {
  int32_t sequences = 1;       // b
  int32_t text_tokens = 0;     // T
  int32_t chunk_size = 1;      // k
  int32_t summary_tokens = 0;  // m; 0: the model has no summary rows
  int32_t live_chunks = 0;     // chunks of a sequence whose summaries have rows
  TextPositions text_positions = TextPositions::kOrigin;
  SummaryPositions summary_positions = SummaryPositions::kChunkEnd;
  // Packed documents: per chunk of the batch, [b, C], the first chunk of its document and the number of real tokens
  // in it. Null: a sequence is one document and every row is real. They lie where the rows lie (host or device).
  const int32_t* document_first_chunk = nullptr;
  const int32_t* chunk_tokens = nullptr;
  // Context parallelism: the text rows of a sequence are one or two runs of whole chunks of a longer sequence. The
  // first `run_chunks` chunks that are here are the sequence's chunks first_chunk, first_chunk + 1, ...; those after
  // them are second_chunk, second_chunk + 1, ..., which follow the first in the sequence. A chunk's number among those
  // that are here is its place; documents are given by the sequence's numbers, and span its `total_tokens`. The
  // defaults: the whole sequence is here.
  int32_t total_tokens = 0;  // 0: text_tokens
  int32_t first_chunk = 0;
  int32_t run_chunks = INT32_MAX;
  int32_t second_chunk = 0;
  // Whether summary rows are those of the sequence's first `live_chunks` chunks, whatever text is here (keys gathered
  // from all ranks); else they are those of the first `live_chunks` chunks that are here.
  bool gathered_summaries = false;
  // Attention: the text rows that are queries, [query_begin, query_end); the others are keys only. q then holds these
  // rows alone. Other than the default with one sequence only.
  int32_t query_begin = 0;
  int32_t query_end = INT32_MAX;

  // --- sizes
  // Chunks that are here, and of the whole sequence.
  [[nodiscard]] KSA_HOST_DEVICE int32_t chunks() const { return (text_tokens + chunk_size - 1) / chunk_size; }

  [[nodiscard]] KSA_HOST_DEVICE int32_t total() const { return total_tokens > 0 ? total_tokens : text_tokens; }

  [[nodiscard]] KSA_HOST_DEVICE int32_t total_chunks() const { return (total() + chunk_size - 1) / chunk_size; }

  // Text rows of a sequence that are queries.
  [[nodiscard]] KSA_HOST_DEVICE Range Queries() const {
    return {query_begin, query_end < text_tokens ? query_end : text_tokens};
  }

  [[nodiscard]] KSA_HOST_DEVICE bool AllTextIsQuery() const { return query_begin == 0 && query_end >= text_tokens; }

  // Rows of q when it holds text alone.
  [[nodiscard]] KSA_HOST_DEVICE int64_t query_rows() const { return int64_t{1} * sequences * Queries().size(); }

  [[nodiscard]] KSA_HOST_DEVICE int32_t live_summaries() const { return live_chunks * summary_tokens; }

  [[nodiscard]] KSA_HOST_DEVICE int64_t text_rows() const { return int64_t{1} * sequences * text_tokens; }

  [[nodiscard]] KSA_HOST_DEVICE int64_t summary_rows() const { return int64_t{1} * sequences * live_summaries(); }

  [[nodiscard]] KSA_HOST_DEVICE int64_t rows() const { return text_rows() + summary_rows(); }

  // --- rows
  [[nodiscard]] KSA_HOST_DEVICE int64_t TextRow(int32_t sequence, int32_t i) const {
    return int64_t{1} * sequence * text_tokens + i;
  }

  // `summary` = c·m + a
  [[nodiscard]] KSA_HOST_DEVICE int64_t SummaryRow(int32_t sequence, int32_t summary) const {
    return text_rows() + int64_t{1} * sequence * live_summaries() + summary;
  }

  struct Place {
    bool is_text;
    int32_t sequence;
    int32_t index;  // among the sequence's text rows, or its summary rows
  };

  // Where a row of the whole matrix is. 64-bit divisions show in the time of row-wise kernels: the first sequence does
  // without.
  [[nodiscard]] KSA_HOST_DEVICE Place Locate(int64_t row) const {
    const bool is_text = row < text_rows();
    const int64_t at = is_text ? row : row - text_rows();
    const int32_t rows_of_sequence = is_text ? text_tokens : live_summaries();
    const int64_t sequence = at < rows_of_sequence ? 0 : at / rows_of_sequence;
    return {is_text, static_cast<int32_t>(sequence), static_cast<int32_t>(at - sequence * rows_of_sequence)};
  }

  // --- chunks and documents
  // The sequence's number of the chunk at place `place`, and of the chunk of a row.
  [[nodiscard]] KSA_HOST_DEVICE int32_t ChunkAt(int32_t place) const {
    return place < run_chunks ? first_chunk + place : second_chunk + (place - run_chunks);
  }

  [[nodiscard]] KSA_HOST_DEVICE int32_t ChunkOfText(int32_t i) const { return ChunkAt(i / chunk_size); }

  // The sequence's number of text row i.
  [[nodiscard]] KSA_HOST_DEVICE int32_t TokenAt(int32_t i) const {
    return ChunkOfText(i) * chunk_size + i % chunk_size;
  }

  [[nodiscard]] KSA_HOST_DEVICE int32_t ChunkOfSummary(int32_t summary) const {
    const int32_t place = summary / summary_tokens;
    return gathered_summaries ? place : ChunkAt(place);
  }

  // First chunk of the document that chunk `chunk` of the sequence belongs to.
  [[nodiscard]] KSA_HOST_DEVICE int32_t DocumentChunk(int32_t sequence, int32_t chunk) const {
    return document_first_chunk == nullptr ? 0 : document_first_chunk[int64_t{1} * sequence * total_chunks() + chunk];
  }

  // Real text tokens of chunk `chunk` of the sequence: k, fewer in the last chunk of the sequence or of a document.
  [[nodiscard]] KSA_HOST_DEVICE int32_t ChunkTokens(int32_t sequence, int32_t chunk) const {
    if (chunk_tokens != nullptr) {
      return chunk_tokens[int64_t{1} * sequence * total_chunks() + chunk];
    }
    const int32_t rest = total() - chunk * chunk_size;
    return rest < chunk_size ? rest : chunk_size;
  }

  [[nodiscard]] KSA_HOST_DEVICE bool IsPadding(int32_t sequence, int32_t i) const {
    return i % chunk_size >= ChunkTokens(sequence, ChunkOfText(i));
  }

  // --- RoPE positions
  [[nodiscard]] KSA_HOST_DEVICE int32_t TextPosition(int32_t sequence, int32_t i) const {
    if (text_positions != TextPositions::kOrigin) {
      return text_positions == TextPositions::kInnerChunk ? i % chunk_size : 0;
    }
    const int32_t chunk = ChunkOfText(i);
    return (chunk - DocumentChunk(sequence, chunk)) * chunk_size + i % chunk_size;
  }

  [[nodiscard]] KSA_HOST_DEVICE int32_t SummaryPosition(int32_t sequence, int32_t summary) const {
    if (summary_positions == SummaryPositions::kZero) {
      return 0;
    }
    const int32_t chunk = ChunkOfSummary(summary);
    const int32_t a = summary % summary_tokens;
    const int32_t begin = (chunk - DocumentChunk(sequence, chunk)) * chunk_size;
    const int32_t tokens = ChunkTokens(sequence, chunk);
    const int32_t share = summary_positions == SummaryPositions::kChunkEnd ? a + 1 : a;
    const int32_t offset = share * tokens / summary_tokens - 1;
    return begin + (offset > 0 ? offset : 0);
  }

  // RoPE position of a row of the whole matrix.
  [[nodiscard]] KSA_HOST_DEVICE int32_t Position(int64_t row) const {
    const Place at = Locate(row);
    return at.is_text ? TextPosition(at.sequence, at.index) : SummaryPosition(at.sequence, at.index);
  }

  // --- who sees whom, as ranges: the form that kernels use. Rows are numbered as they are here. Ranges between text
  // and text are for text of one run. Those between text and summaries are for text of one run whose sequence's
  // summaries are all here: gathered, or with the whole sequence. Those of a summary query, inside its chunk, are for
  // any layout but gathered summaries, which are no queries.
  // Text keys [begin, end) that text query i sees. Empty for a padding row.
  [[nodiscard]] KSA_HOST_DEVICE Range TextKeys(const AttentionWindow& window, int32_t sequence, int32_t i) const {
    const int32_t chunk = ChunkOfText(i);
    if (i % chunk_size >= ChunkTokens(sequence, chunk)) {
      return {i, i};
    }
    int32_t first = DocumentChunk(sequence, chunk);
    if (window.chunks < chunk - first) {
      first = chunk - window.chunks;
    }
    int32_t begin = first > first_chunk ? (first - first_chunk) * chunk_size : 0;
    if (window.tokens <= i && i - window.tokens + 1 > begin) {
      begin = i - window.tokens + 1;
    }
    return {begin, i + 1};
  }

  // Summary keys [begin, end) that text query i sees. Empty for a padding row.
  [[nodiscard]] KSA_HOST_DEVICE Range SummaryKeys(const AttentionWindow& window, int32_t sequence, int32_t i) const {
    const int32_t chunk = ChunkOfText(i);
    const int32_t first = DocumentChunk(sequence, chunk);
    if (!window.summaries || i % chunk_size >= ChunkTokens(sequence, chunk)) {
      return {0, 0};
    }
    if (window.overlap) {
      return {first * summary_tokens, (i % chunk_size + 1 == chunk_size ? chunk + 1 : chunk) * summary_tokens};
    }
    if (window.chunks >= chunk - first) {
      return {0, 0};
    }
    return {first * summary_tokens, (chunk - window.chunks) * summary_tokens};
  }

  // A summary sees its own chunk in every layer: its text [begin, end) ...
  [[nodiscard]] KSA_HOST_DEVICE Range SummaryTextKeys(int32_t sequence, int32_t summary) const {
    const int32_t begin = summary / summary_tokens * chunk_size;
    return {begin, begin + ChunkTokens(sequence, ChunkOfSummary(summary))};
  }

  // ... and its summaries up to itself.
  [[nodiscard]] KSA_HOST_DEVICE Range SummarySummaryKeys(int32_t summary) const {
    return {summary / summary_tokens * summary_tokens, summary + 1};
  }

  // --- who is seen by whom: the same rule from the key's side, for kernels that hold keys and pass over queries
  // The chunk after the last one of the document that `chunk` belongs to; both the sequence's numbers.
  [[nodiscard]] KSA_HOST_DEVICE int32_t DocumentEndChunk(int32_t sequence, int32_t chunk) const {
    int32_t end = total_chunks();
    if (document_first_chunk == nullptr) {
      return end;
    }
    const int32_t first = DocumentChunk(sequence, chunk);
    int32_t inside = chunk;
    while (end - inside > 1) {  // first chunks rise with the chunk: bisection
      const int32_t middle = inside + (end - inside) / 2;
      if (DocumentChunk(sequence, middle) == first) {
        inside = middle;
      } else {
        end = middle;
      }
    }
    return end;
  }

  // The row after the last real text token of the document that `chunk` belongs to, as far as it is here.
  [[nodiscard]] KSA_HOST_DEVICE int32_t DocumentEndRow(int32_t sequence, int32_t chunk) const {
    const int32_t last = DocumentEndChunk(sequence, chunk) - 1;
    const int32_t end = (last - first_chunk) * chunk_size + ChunkTokens(sequence, last);
    return end < text_tokens ? end : text_tokens;
  }

  // Text queries [begin, end) that see text key j. Empty for a padding row.
  [[nodiscard]] KSA_HOST_DEVICE Range TextReadersOfText(const AttentionWindow& window,
                                                        int32_t sequence,
                                                        int32_t j) const {
    const int32_t chunk = ChunkOfText(j);
    if (j % chunk_size >= ChunkTokens(sequence, chunk)) {
      return {j, j};
    }
    int32_t end = DocumentEndRow(sequence, chunk);
    if (window.chunks < total_chunks() - chunk - 1 && (chunk + window.chunks + 1 - first_chunk) * chunk_size < end) {
      end = (chunk + window.chunks + 1 - first_chunk) * chunk_size;
    }
    if (window.tokens < end - j) {
      end = j + window.tokens;
    }
    return QueriesWithin({j, end});
  }

  // Text queries [begin, end) that see summary key `summary`.
  [[nodiscard]] KSA_HOST_DEVICE Range TextReadersOfSummary(const AttentionWindow& window,
                                                           int32_t sequence,
                                                           int32_t summary) const {
    const int32_t chunk = ChunkOfSummary(summary);
    if (!window.summaries || (!window.overlap && window.chunks >= total_chunks() - chunk - 1)) {
      return {0, 0};
    }
    const int32_t first = (window.overlap ? chunk : chunk + window.chunks) + 1 - first_chunk;  // after the chunk
    const int32_t begin = first * chunk_size - (window.overlap ? 1 : 0);
    const Range readers = {begin > 0 ? begin : 0, DocumentEndRow(sequence, chunk)};
    return readers.size() > 0 ? QueriesWithin(readers) : Range{0, 0};
  }

  // Summary queries with rows [begin, end) that see text key j: those of its chunk. Empty for a padding row, and where
  // summaries are gathered (they are no queries there).
  [[nodiscard]] KSA_HOST_DEVICE Range SummaryReadersOfText(int32_t sequence, int32_t j) const {
    const int32_t place = j / chunk_size;
    if (gathered_summaries || place >= live_chunks || j % chunk_size >= ChunkTokens(sequence, ChunkAt(place))) {
      return {0, 0};
    }
    return {place * summary_tokens, (place + 1) * summary_tokens};
  }

  // Summary queries [begin, end) that see summary key `summary`: those of its chunk from itself on.
  [[nodiscard]] KSA_HOST_DEVICE Range SummaryReadersOfSummary(int32_t summary) const {
    if (gathered_summaries) {
      return {0, 0};
    }
    return {summary, (summary / summary_tokens + 1) * summary_tokens};
  }

 private:
  // The queries among text rows; empty at the end of `rows` when there are none.
  [[nodiscard]] KSA_HOST_DEVICE Range QueriesWithin(Range rows) const {
    const Range queries = Queries();
    const int32_t begin = rows.begin > queries.begin ? rows.begin : queries.begin;
    const int32_t end = rows.end < queries.end ? rows.end : queries.end;
    return {begin < end ? begin : end, end};
  }
};

// The rule itself, one pair at a time, written from docs/ksa.md and from nothing else: the oracle of the reference
// attention, of the tile planner and of the ranges above.
[[nodiscard]] KSA_HOST_DEVICE inline bool Visible(
    const SummaryLayout& layout, const AttentionWindow& window, int32_t sequence, RowId query, RowId key) {
  const int32_t query_chunk = query.is_summary ? layout.ChunkOfSummary(query.index) : layout.ChunkOfText(query.index);
  const int32_t key_chunk = key.is_summary ? layout.ChunkOfSummary(key.index) : layout.ChunkOfText(key.index);
  if (layout.DocumentChunk(sequence, query_chunk) != layout.DocumentChunk(sequence, key_chunk)) {
    return false;
  }
  if ((!query.is_summary && layout.IsPadding(sequence, query.index)) ||
      (!key.is_summary && layout.IsPadding(sequence, key.index))) {
    return false;
  }
  if (query.is_summary) {
    return query_chunk == key_chunk && (!key.is_summary || key.index <= query.index);
  }
  const bool in_chunk_window = window.chunks == AttentionWindow::kUnlimited || key_chunk >= query_chunk - window.chunks;
  if (key.is_summary) {
    const bool ended = (key_chunk + 1) * layout.chunk_size <= layout.TokenAt(query.index) + 1;
    return window.summaries && (window.overlap ? ended : !in_chunk_window);
  }
  const int32_t distance = layout.TokenAt(query.index) - layout.TokenAt(key.index);
  const bool in_token_window = window.tokens == AttentionWindow::kUnlimited || distance < window.tokens;
  return distance >= 0 && in_chunk_window && in_token_window;
}

// Chunks of a sequence whose summaries some text of it can see in a layer with `window_chunks`: C - w - 1, at least 0.
// Pass the smallest window of the model's KSA layers.
[[nodiscard]] KSA_HOST_DEVICE inline int32_t LiveChunks(int32_t chunks, int32_t window_chunks) {
  return window_chunks >= chunks - 1 ? 0 : chunks - 1 - window_chunks;
}

// The same of a sequence that `layout` has, or has a part of, in a layer with this window. With overlap they are the
// whole chunks.
[[nodiscard]] KSA_HOST_DEVICE inline int32_t LiveChunks(const SummaryLayout& layout, const AttentionWindow& window) {
  if (!window.summaries) {
    return 0;
  }
  return window.overlap ? layout.total() / layout.chunk_size : LiveChunks(layout.total_chunks(), window.chunks);
}

}  // namespace ksa
