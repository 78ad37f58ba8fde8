// Parts of sequences in SummaryLayout against the whole: which tokens, documents and positions a row of a part has, and
// whom it sees.
#include "tests/support/context_layout.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/core/philox.h"
#include "kernels/core/summary_layout.h"

namespace ksa::testing {
namespace {

// A whole layout of random sizes with the tables of its documents, if it has any, and a window whose summaries live.
class RandomWhole {
 public:
  explicit RandomWhole(uint64_t seed) : seed_(seed) {
    layout_.sequences = Pick({1, 2, 3});
    layout_.text_tokens = Pick({1, 5, 12, 23, 24, 40});
    layout_.chunk_size = Pick({1, 3, 4, 8});
    layout_.summary_tokens = Pick({1, 2, 3});
    window_ = PickWindow();
    layout_.live_chunks = Pick(LiveChunks(layout_, window_), layout_.chunks());
    layout_.text_positions = Pick({0, 1}) == 0 ? TextPositions::kOrigin : TextPositions::kInnerChunk;
    layout_.summary_positions = std::vector<SummaryPositions>{SummaryPositions::kChunkEnd,
                                                              SummaryPositions::kChunkStart,
                                                              SummaryPositions::kZero}[static_cast<size_t>(Pick(0, 2))];
    if (Pick({0, 1}) == 1) {
      MakeDocuments();
    }
  }

  [[nodiscard]] int32_t Pick(const std::vector<int32_t>& from) {
    return from[Philox4x32(seed_, draw_++)[0] % from.size()];
  }

  // Of [first, last].
  [[nodiscard]] int32_t Pick(int32_t first, int32_t last) {
    return first + static_cast<int32_t>(Philox4x32(seed_, draw_++)[0] % static_cast<uint32_t>(last - first + 1));
  }

  [[nodiscard]] const AttentionWindow& window() const { return window_; }

  [[nodiscard]] SummaryLayout Layout() const {
    SummaryLayout layout = layout_;
    layout.document_first_chunk = first_chunk_.empty() ? nullptr : first_chunk_.data();
    layout.chunk_tokens = first_chunk_.empty() ? nullptr : chunk_tokens_.data();
    return layout;
  }

 private:
  [[nodiscard]] AttentionWindow PickWindow() {
    const int32_t w = Pick({0, 1, 2, 5, 100});
    const std::vector<AttentionWindow> windows = {AttentionWindow::Ksa(w),
                                                  AttentionWindow::Hca(w, true),
                                                  AttentionWindow::Full(),
                                                  AttentionWindow::SlidingTokens(w + 1),
                                                  AttentionWindow::SlidingChunks(w)};
    return windows[static_cast<size_t>(Pick(0, 3))];
  }

  // A document of 0 tokens is a chunk of padding.
  void MakeDocuments() {
    for (int32_t sequence = 0; sequence < layout_.sequences; ++sequence) {
      int32_t first = 0;
      int32_t rest = 0;
      for (int32_t chunk = 0; chunk < layout_.chunks(); ++chunk) {
        if (rest <= 0) {
          first = chunk;
          rest = Pick(0, 3 * layout_.chunk_size + 1);
        }
        const int32_t room = layout_.text_tokens - chunk * layout_.chunk_size;
        first_chunk_.push_back(first);
        chunk_tokens_.push_back(std::min({rest, layout_.chunk_size, room}));
        rest -= layout_.chunk_size;
      }
    }
  }

  uint64_t seed_;
  uint64_t draw_ = 0;
  SummaryLayout layout_;
  AttentionWindow window_;
  std::vector<int32_t> first_chunk_;
  std::vector<int32_t> chunk_tokens_;
};

std::string Describe(const SummaryLayout& part) {
  return fmt::format("T {} of {} k {} m {} live {}{} chunks {} + {} then {}{} queries [{}, {})",
                     part.text_tokens,
                     part.total(),
                     part.chunk_size,
                     part.summary_tokens,
                     part.live_chunks,
                     part.gathered_summaries ? " gathered" : "",
                     part.first_chunk,
                     part.run_chunks,
                     part.second_chunk,
                     part.chunk_tokens == nullptr ? "" : " documents",
                     part.query_begin,
                     part.query_end);
}

std::vector<RowId> RowsOfSequence(const SummaryLayout& layout) {
  std::vector<RowId> rows;
  for (int32_t i = 0; i < layout.text_tokens; ++i) {
    rows.push_back({false, i});
  }
  for (int32_t i = 0; i < layout.live_summaries(); ++i) {
    rows.push_back({true, i});
  }
  return rows;
}

// Every row of the part is that row of sequence `first_sequence` + q of the whole.
void ExpectSameRows(const SummaryLayout& whole, const SummaryLayout& part, int32_t first_sequence) {
  for (int64_t row = 0; row < part.rows(); ++row) {
    EXPECT_EQ(part.Position(row), whole.Position(WholeRow(whole, part, first_sequence, row))) << "row " << row;
  }
  for (int32_t q = 0; q < part.sequences; ++q) {
    for (int32_t i = 0; i < part.text_tokens; ++i) {
      const int32_t token = WholeRow(part, {false, i}).index;
      EXPECT_EQ(part.TokenAt(i), token);
      EXPECT_EQ(part.IsPadding(q, i), whole.IsPadding(first_sequence + q, token)) << "text " << i;
      const int32_t chunk = part.ChunkOfText(i);
      EXPECT_EQ(chunk, whole.ChunkOfText(token)) << "text " << i;
      EXPECT_EQ(part.ChunkTokens(q, chunk), whole.ChunkTokens(first_sequence + q, chunk)) << "chunk " << chunk;
      EXPECT_EQ(part.DocumentChunk(q, chunk), whole.DocumentChunk(first_sequence + q, chunk)) << "chunk " << chunk;
    }
  }
}

void ExpectSameVisible(const SummaryLayout& whole,
                       const SummaryLayout& part,
                       int32_t first_sequence,
                       const AttentionWindow& window) {
  const std::vector<RowId> rows = RowsOfSequence(part);
  for (int32_t q = 0; q < part.sequences; ++q) {
    for (const RowId& query : rows) {
      for (const RowId& key : rows) {
        EXPECT_EQ(Visible(part, window, q, query, key),
                  Visible(whole, window, first_sequence + q, WholeRow(part, query), WholeRow(part, key)))
            << (query.is_summary ? "summary " : "text ") << query.index << (key.is_summary ? " summary " : " text ")
            << key.index;
      }
    }
  }
}

bool In(Range range, int32_t x) {
  return x >= range.begin && x < range.end;
}

// Kernels count on it of empty ranges too.
void ExpectInside(Range range, int32_t rows) {
  EXPECT_TRUE(range.begin >= 0 && range.begin <= range.end && range.end <= rows)
      << "[" << range.begin << ", " << range.end << ") of " << rows;
}

// The ranges of text queries of a part of one run whose summaries are gathered.
void ExpectTextRanges(const SummaryLayout& part, const AttentionWindow& window) {
  for (int32_t i = 0; i < part.text_tokens; ++i) {
    for (const RowId& key : RowsOfSequence(part)) {
      const bool visible = Visible(part, window, 0, {false, i}, key);
      const Range keys = key.is_summary ? part.SummaryKeys(window, 0, i) : part.TextKeys(window, 0, i);
      const Range readers = key.is_summary ? part.TextReadersOfSummary(window, 0, key.index)
                                           : part.TextReadersOfText(window, 0, key.index);
      ExpectInside(keys, key.is_summary ? part.live_summaries() : part.text_tokens);
      ExpectInside(readers, part.text_tokens);
      EXPECT_EQ(In(keys, key.index), visible) << "text " << i << (key.is_summary ? " sum " : " text ") << key.index;
      EXPECT_EQ(In(readers, i), visible && In(part.Queries(), i))
          << "text " << i << (key.is_summary ? " sum " : " text ") << key.index;
    }
    EXPECT_EQ(part.SummaryReadersOfText(0, i).size(), 0);
  }
  for (int32_t s = 0; s < part.live_summaries(); ++s) {
    EXPECT_EQ(part.SummaryReadersOfSummary(s).size(), 0);
  }
}

// The ranges of summary queries of what a rank holds.
void ExpectSummaryRanges(const SummaryLayout& part, const AttentionWindow& window) {
  for (int32_t q = 0; q < part.sequences; ++q) {
    for (int32_t s = 0; s < part.live_summaries(); ++s) {
      for (const RowId& key : RowsOfSequence(part)) {
        const bool visible = Visible(part, window, q, {true, s}, key);
        const Range keys = key.is_summary ? part.SummarySummaryKeys(s) : part.SummaryTextKeys(q, s);
        const Range readers =
            key.is_summary ? part.SummaryReadersOfSummary(key.index) : part.SummaryReadersOfText(q, key.index);
        EXPECT_EQ(In(keys, key.index), visible) << "sum " << s << (key.is_summary ? " sum " : " text ") << key.index;
        EXPECT_EQ(In(readers, s), visible) << "sum " << s << (key.is_summary ? " sum " : " text ") << key.index;
      }
    }
  }
}

TEST(ContextLayout, RanksHoldTheRowsOfTheWhole) {
  for (uint64_t seed = 0; seed < 120 && !::testing::Test::HasFailure(); ++seed) {
    RandomWhole random(seed);
    const SummaryLayout whole = random.Layout();
    const AttentionWindow window = random.window();
    const int32_t ranks = random.Pick(1, 5);
    std::vector<int> seen(static_cast<size_t>(whole.rows()));
    for (int32_t rank = 0; rank < ranks; ++rank) {
      const SummaryLayout part = RankLayout(whole, ranks, rank);
      SCOPED_TRACE(fmt::format("seed {} rank {} of {}: {}", seed, rank, ranks, Describe(part)));
      ExpectSameRows(whole, part, 0);
      ExpectSameVisible(whole, part, 0, window);
      ExpectSummaryRanges(part, window);
      for (int64_t row = 0; row < part.rows(); ++row) {
        ++seen[static_cast<size_t>(WholeRow(whole, part, 0, row))];
      }
    }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), whole.rows()) << "rows that are not of exactly one rank";
  }
}

TEST(ContextLayout, PartsWithQueriesSeeWhatTheWholeSees) {
  for (uint64_t seed = 0; seed < 400 && !::testing::Test::HasFailure(); ++seed) {
    RandomWhole random(1000 + seed);
    const SummaryLayout whole = random.Layout();
    const AttentionWindow window = random.window();
    const int32_t sequence = random.Pick(0, whole.sequences - 1);
    const int32_t begin = random.Pick(0, whole.chunks());
    const int32_t end = random.Pick(begin, whole.chunks());
    const int32_t first_query = random.Pick(begin, end);
    SummaryLayout part = PartLayout(whole, sequence, {begin, end}, {first_query, random.Pick(first_query, end)});
    if (random.Pick(0, 3) == 0) {  // queries from anywhere inside a chunk
      part.query_begin = random.Pick(0, part.text_tokens);
      part.query_end = random.Pick(part.query_begin, part.text_tokens);
    }
    SCOPED_TRACE(fmt::format("seed {} sequence {}: {}", seed, sequence, Describe(part)));
    EXPECT_EQ(part.query_rows(), part.query_end - part.query_begin);
    ExpectSameRows(whole, part, sequence);
    ExpectSameVisible(whole, part, sequence, window);
    ExpectTextRanges(part, window);
  }
}

}  // namespace
}  // namespace ksa::testing
