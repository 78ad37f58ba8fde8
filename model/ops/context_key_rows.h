// Where the rows of keys lie when they come from other ranks: among the rank's own rows, and in the buffers that calls
// of attention read. Internal to context attention.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "model/ops/context_text.h"
#include "parallel/context/keys_plan.h"
#include "parallel/context/slices.h"

namespace ksa {

// One call of attention: the text queries of one run of chunks of one sequence.
struct KeysCall {
  int32_t sequence = 0;
  Range own;
  Range keys;  // chunks whose text is there
  size_t buffer = 0;
};

[[nodiscard]] inline Range Common(const Range& a, const Range& b) {
  return {std::max(a.begin, b.begin), std::min(a.end, b.end)};
}

// A buffer holds, per sequence, the text of its chunks and then all summaries that text sees.
class KeyRows {
 public:
  explicit KeyRows(const ContextTextSpec& spec)
      : spec_(spec), plan_(PlanKeys(spec.whole, spec.window, spec.group->size(), spec.group->rank())) {
    for (int32_t q = 0; q < spec_.whole.sequences; ++q) {
      for (const QueryRun& run : plan_.runs) {
        const auto buffer = static_cast<size_t>(run.buffer);
        // Summaries lie behind the text of the whole buffer.
        calls_.push_back({q, run.own, spec_.SeesSummaries() ? plan_.buffers[buffer] : run.keys, buffer});
      }
    }
  }

  [[nodiscard]] const ContextTextSpec& spec() const { return spec_; }

  [[nodiscard]] const KeysPlan& plan() const { return plan_; }

  [[nodiscard]] int32_t sequences() const { return spec_.whole.sequences; }

  // Sequence by sequence.
  [[nodiscard]] const std::vector<KeysCall>& calls() const { return calls_; }

  // --- numbers of rows
  [[nodiscard]] int32_t Tokens(const Range& chunks) const { return TokensOf(spec_.whole, chunks); }

  [[nodiscard]] int64_t Summaries(const Range& chunks) const {
    return int64_t{1} * chunks.size() * spec_.whole.summary_tokens;
  }

  // Summary rows of a sequence that text sees.
  [[nodiscard]] int64_t SeenSummaries() const { return spec_.SeesSummaries() ? spec_.whole.live_summaries() : 0; }

  // Of one sequence.
  [[nodiscard]] int64_t BufferRows(size_t buffer) const { return Tokens(plan_.buffers[buffer]) + SeenSummaries(); }

  // --- own chunks, in a matrix of the rank's rows
  [[nodiscard]] TensorView LocalText(const TensorView& x, int32_t sequence, const Range& chunks) const {
    const int32_t place = PlaceOf(spec_.local, chunks.begin);
    return x.Rows(spec_.local.TextRow(sequence, place * spec_.local.chunk_size), Tokens(chunks));
  }

  [[nodiscard]] TensorView LocalSummaries(const TensorView& x, int32_t sequence, const Range& chunks) const {
    const int32_t place = PlaceOf(spec_.local, chunks.begin);
    return x.Rows(spec_.local.SummaryRow(sequence, place * spec_.local.summary_tokens), Summaries(chunks));
  }

  // --- any chunks that are there, in a buffer
  [[nodiscard]] size_t BufferOf(const Range& chunks) const {
    size_t buffer = 0;
    while (chunks.begin >= plan_.buffers[buffer].end) {
      ++buffer;
    }
    return buffer;
  }

  [[nodiscard]] TensorView BufferText(const TensorView& x, size_t buffer, int32_t sequence, const Range& chunks) const {
    const int64_t first = sequence * BufferRows(buffer) + Tokens({plan_.buffers[buffer].begin, chunks.begin});
    return x.Rows(first, Tokens(chunks));
  }

  [[nodiscard]] TensorView BufferSummaries(const TensorView& x,
                                           size_t buffer,
                                           int32_t sequence,
                                           const Range& chunks) const {
    const int64_t first = sequence * BufferRows(buffer) + Tokens(plan_.buffers[buffer]);
    return x.Rows(first + Summaries({0, chunks.begin}), Summaries(chunks));
  }

  // --- a call
  [[nodiscard]] int64_t KeysOf(const KeysCall& call) const { return Tokens(call.keys) + SeenSummaries(); }

  // Its keys, in a buffer.
  [[nodiscard]] TensorView BufferKeys(const TensorView& x, const KeysCall& call) const {
    const int32_t skipped = Tokens({plan_.buffers[call.buffer].begin, call.keys.begin});
    return x.Rows(call.sequence * BufferRows(call.buffer) + skipped, KeysOf(call));
  }

  // Its queries, in a matrix of the rank's text rows.
  [[nodiscard]] TensorView Queries(const TensorView& x, const KeysCall& call) const {
    return LocalText(x, call.sequence, call.own);
  }

  [[nodiscard]] SummaryLayout LayoutOf(const KeysCall& call) const {
    SummaryLayout layout = spec_.whole;
    layout.sequences = 1;
    layout.text_tokens = Tokens(call.keys);
    layout.total_tokens = spec_.whole.text_tokens;
    layout.first_chunk = call.keys.begin;
    layout.live_chunks = spec_.SeesSummaries() ? spec_.whole.live_chunks : 0;
    layout.gathered_summaries = true;
    layout.query_begin = Tokens({call.keys.begin, call.own.begin});
    layout.query_end = layout.query_begin + Tokens(call.own);
    if (layout.document_first_chunk != nullptr) {
      layout.document_first_chunk += int64_t{1} * call.sequence * spec_.whole.chunks();
      layout.chunk_tokens += int64_t{1} * call.sequence * spec_.whole.chunks();
    }
    return layout;
  }

 private:
  ContextTextSpec spec_;
  KeysPlan plan_;
  std::vector<KeysCall> calls_;
};

}  // namespace ksa
