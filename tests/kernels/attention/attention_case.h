// One attention problem with its tensors, for the tests of this folder.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "kernels/attention/attention.h"
#include "kernels/core/philox.h"
#include "kernels/core/summary_layout.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {

struct AttentionCase {
  SummaryLayout layout;
  AttentionWindow window;
  int64_t heads = 1;
  int64_t groups = 1;
  int64_t dim = 8;
  int64_t value_dim = 0;        // 0: as dim
  double scale = 0.0;           // 0: 1/sqrt(dim)
  bool text_queries = true;     // false: q has summary rows only
  bool query_summaries = true;  // q has summary rows, else text rows only
  bool key_summaries = true;    // so have k and v
  std::vector<int32_t> first_chunk;
  std::vector<int32_t> chunk_tokens;

  [[nodiscard]] int64_t QueryRows() const {
    return (text_queries ? layout.query_rows() : 0) + (query_summaries ? layout.summary_rows() : 0);
  }

  [[nodiscard]] int64_t ValueDim() const { return value_dim == 0 ? dim : value_dim; }

  [[nodiscard]] int64_t KeyRows() const { return key_summaries ? layout.rows() : layout.text_rows(); }

  // Points the layout at this object's own tables.
  [[nodiscard]] SummaryLayout Layout() const {
    SummaryLayout own = layout;
    own.document_first_chunk = first_chunk.empty() ? nullptr : first_chunk.data();
    own.chunk_tokens = chunk_tokens.empty() ? nullptr : chunk_tokens.data();
    return own;
  }

  // Cuts every sequence into documents of `length(i)` tokens, i counting up, each starting at a chunk. A length of 0
  // leaves one chunk of padding.
  template <typename Length>
  void Pack(Length length) {
    int32_t i = 0;
    for (int32_t sequence = 0; sequence < layout.sequences; ++sequence) {
      for (int32_t chunk = 0; chunk < layout.chunks();) {
        const int32_t first = chunk;
        int32_t rest = length(i++);
        do {
          const int32_t tokens = std::min({rest, layout.chunk_size, layout.text_tokens - chunk * layout.chunk_size});
          first_chunk.push_back(first);
          chunk_tokens.push_back(tokens);
          rest -= tokens;
          ++chunk;
        } while (rest > 0 && chunk < layout.chunks());
      }
    }
  }

  [[nodiscard]] std::string Describe() const {
    return fmt::format(
        "b {} T {}{} k {} m {} live {}{} | window {} chunks {} tokens{} | h {} g {} e {} c {} scale {}{}{}{}{}",
        layout.sequences,
        layout.text_tokens,
        DescribePart(),
        layout.chunk_size,
        layout.summary_tokens,
        layout.live_chunks,
        layout.gathered_summaries ? " gathered" : "",
        window.chunks,
        window.tokens,
        window.summaries ? (window.overlap ? " overlapping" : " summaries") : "",
        heads,
        groups,
        dim,
        ValueDim(),
        scale,
        text_queries ? "" : " | q summaries only",
        query_summaries ? "" : " | q text only",
        key_summaries ? "" : " | k text only",
        first_chunk.empty() ? "" : " | documents");
  }

 private:
  [[nodiscard]] std::string DescribePart() const {
    if (layout.total() == layout.text_tokens && layout.AllTextIsQuery()) {
      return "";
    }
    return fmt::format(" of {} (chunks from {}, after {} of them from {}; queries [{}, {}))",
                       layout.total(),
                       layout.first_chunk,
                       layout.run_chunks,
                       layout.second_chunk,
                       layout.Queries().begin,
                       layout.Queries().end);
  }
};

// Case number `i` of an endless list in which every size, window and option comes up with every other.
inline AttentionCase MakeCase(uint64_t i) {
  uint64_t draw = 0;
  const auto pick = [&](const std::vector<int32_t>& from) { return from[Philox4x32(i, draw++)[0] % from.size()]; };
  AttentionCase c;
  c.layout.sequences = pick({1, 1, 3});
  c.layout.text_tokens = pick({1, 5, 7, 30, 44, 45, 50, 64, 113});
  c.layout.chunk_size = pick({1, 3, 4, 8, 16});
  c.layout.summary_tokens = pick({1, 2, 3, 4});
  const int32_t w = pick({0, 1, 2, 5, 100});
  const std::vector<AttentionWindow> windows = {AttentionWindow::Ksa(w),
                                                AttentionWindow::Ksa(w),
                                                AttentionWindow::Full(),
                                                AttentionWindow::SlidingTokens(w + 1),
                                                AttentionWindow::SlidingChunks(w)};
  c.window = windows[static_cast<size_t>(pick({0, 1, 2, 3, 4}))];
  const int32_t live = LiveChunks(c.layout.chunks(), w);
  c.layout.live_chunks = pick({live, c.layout.chunks()});
  c.groups = pick({1, 2, 3});
  c.heads = c.groups * pick({1, 2, 3});
  c.dim = pick({2, 8, 24, 64});
  c.query_summaries = pick({0, 1, 1}) == 1;
  const bool needs_summaries = c.query_summaries || (c.window.summaries && live > 0);
  c.key_summaries = needs_summaries || pick({0, 1}) == 1;
  if (pick({0, 0, 1}) == 1) {
    const int32_t longest = 3 * c.layout.chunk_size + 3;
    c.Pack([&](int32_t) { return static_cast<int32_t>(Philox4x32(i, draw++)[0] % static_cast<uint32_t>(longest)); });
  }
  return c;
}

// The same with what only the CPU does: values of another width than keys, another scale, summaries that are seen from
// the end of their chunk on.
inline AttentionCase MakeCpuCase(uint64_t i) {
  AttentionCase c = MakeCase(i);
  const uint64_t key = NamedKey(i, "on the CPU");
  const auto pick = [&](uint64_t draw, uint32_t choices) { return Philox4x32(key, draw)[0] % choices; };
  if (pick(0, 2) == 0) {
    c.value_dim = std::vector<int64_t>{1, 8, 13, 40, 72}[pick(1, 5)];
    c.scale = pick(2, 2) == 0 ? 0.3 : 0.0;
  }
  if (c.window.summaries && pick(3, 2) == 0) {
    c.window.overlap = true;
    c.layout.live_chunks = std::max(c.layout.live_chunks, LiveChunks(c.Layout(), c.window));
    c.key_summaries = c.key_summaries || c.layout.live_chunks > 0;
  }
  return c;
}

// Inputs, and room for the outputs, of one case.
struct AttentionTensors {
  Tensor q, k, v, dout, out, lse, dq, dk, dv;

  AttentionTensors(const AttentionCase& c, DType dtype, Allocator& allocator) {
    const Shape query = {c.QueryRows(), c.heads, c.dim};
    const Shape key = {c.KeyRows(), c.groups, c.dim};
    q = Normal("q", query, dtype, allocator);
    k = Normal("k", key, dtype, allocator);
    v = Normal("v", {c.KeyRows(), c.groups, c.ValueDim()}, dtype, allocator);
    dout = Normal("dout", {c.QueryRows(), c.heads, c.ValueDim()}, dtype, allocator);
    MakeOutputs(allocator);
  }

  AttentionTensors() = default;

  // The same inputs in another type.
  AttentionTensors(const AttentionTensors& from, DType dtype, Allocator& allocator) {
    const auto convert = [&](const Tensor& x) {
      Tensor y = Tensor::Empty(x.shape(), dtype, allocator);
      for (int64_t i = 0; i < x.size(); ++i) {
        SetElement(y, i, ElementAt(x, i));
      }
      return y;
    };
    q = convert(from.q);
    k = convert(from.k);
    v = convert(from.v);
    dout = convert(from.dout);
    MakeOutputs(allocator);
  }

  [[nodiscard]] AttentionForwardArgs Forward(const AttentionCase& c, Allocator* scratch) const {
    return {q, k, v, out, lse, c.Layout(), c.window, AttentionPath::kAuto, scratch, c.text_queries, c.scale};
  }

  [[nodiscard]] AttentionBackwardArgs Backward(const AttentionCase& c, Allocator* scratch) const {
    return {q,
            k,
            v,
            out,
            lse,
            dout,
            dq,
            dk,
            dv,
            c.Layout(),
            c.window,
            AttentionPath::kAuto,
            scratch,
            c.text_queries,
            c.scale};
  }

  void Run(const AttentionCase& c, const Stream& stream, Allocator* scratch) const {
    AttentionForward(Forward(c, scratch), stream);
    AttentionBackward(Backward(c, scratch), stream);
  }

  // New ones, of the sizes of the inputs.
  void MakeOutputs(Allocator& allocator) {
    const DType dtype = q.dtype();
    out = Tensor::Empty(dout.shape(), dtype, allocator);
    lse = Tensor::Empty({q.shape()[0], q.shape()[1]}, AccumulationType(dtype), allocator);
    dq = Tensor::Empty(q.shape(), dtype, allocator);
    dk = Tensor::Empty(k.shape(), dtype, allocator);
    dv = Tensor::Empty(v.shape(), dtype, allocator);
  }
};

}  // namespace ksa::testing
