// The ranges of SummaryLayout against Visible, pair by pair, and both against a mask written out by hand.
#include "kernels/core/summary_layout.h"

#include <vector>

#include <gtest/gtest.h>

namespace ksa {
namespace {

struct Packed {
  SummaryLayout layout;
  std::vector<int32_t> first_chunk;
  std::vector<int32_t> tokens;
};

// Documents of the given lengths, each starting at a chunk, in one sequence of T tokens.
Packed Pack(int32_t text_tokens, int32_t k, int32_t m, const std::vector<int32_t>& lengths) {
  Packed packed;
  packed.layout = {.sequences = 1, .text_tokens = text_tokens, .chunk_size = k, .summary_tokens = m};
  packed.layout.live_chunks = packed.layout.chunks();
  for (const int32_t length : lengths) {
    const auto first = static_cast<int32_t>(packed.tokens.size());
    for (int32_t done = 0; done < length; done += k) {
      packed.first_chunk.push_back(first);
      packed.tokens.push_back(std::min(k, length - done));
    }
  }
  packed.layout.document_first_chunk = packed.first_chunk.data();
  packed.layout.chunk_tokens = packed.tokens.data();
  return packed;
}

bool In(Range range, int32_t x) {
  return x >= range.begin && x < range.end;
}

void ExpectRangesMatch(const SummaryLayout& layout, const AttentionWindow& window) {
  const int32_t summaries = layout.chunks() * layout.summary_tokens;
  for (int32_t i = 0; i < layout.text_tokens; ++i) {
    const Range text = layout.TextKeys(window, 0, i);
    const Range summary = layout.SummaryKeys(window, 0, i);
    for (int32_t j = 0; j < layout.text_tokens; ++j) {
      const bool visible = Visible(layout, window, 0, {false, i}, {false, j});
      EXPECT_EQ(In(text, j), visible) << "text " << i << " text " << j;
      EXPECT_EQ(In(layout.TextReadersOfText(window, 0, j), i), visible) << "text " << i << " text " << j;
    }
    for (int32_t s = 0; s < summaries; ++s) {
      const bool visible = Visible(layout, window, 0, {false, i}, {true, s});
      EXPECT_EQ(In(summary, s), visible) << "text " << i << " sum " << s;
      EXPECT_EQ(In(layout.TextReadersOfSummary(window, 0, s), i), visible) << "text " << i << " sum " << s;
    }
  }
  for (int32_t q = 0; q < summaries; ++q) {
    for (int32_t j = 0; j < layout.text_tokens; ++j) {
      const bool visible = Visible(layout, window, 0, {true, q}, {false, j});
      EXPECT_EQ(In(layout.SummaryTextKeys(0, q), j), visible);
      EXPECT_EQ(In(layout.SummaryReadersOfText(0, j), q), visible);
    }
    for (int32_t s = 0; s < summaries; ++s) {
      const bool visible = Visible(layout, window, 0, {true, q}, {true, s});
      EXPECT_EQ(In(layout.SummarySummaryKeys(q), s), visible);
      EXPECT_EQ(In(layout.SummaryReadersOfSummary(s), q), visible);
    }
  }
}

std::vector<AttentionWindow> Windows() {
  std::vector<AttentionWindow> windows = {AttentionWindow::Full()};
  for (const int32_t w : {0, 1, 2, 5, 100}) {
    windows.push_back(AttentionWindow::Ksa(w));
    windows.push_back(AttentionWindow::Hca(w, true));
    windows.push_back(AttentionWindow::SlidingChunks(w));
    windows.push_back(AttentionWindow::SlidingTokens(w + 1));
  }
  return windows;
}

TEST(SummaryLayout, RangesMatchVisible) {
  for (const int32_t k : {1, 3, 4, 8}) {
    for (const int32_t m : {1, 2, 3}) {
      for (const int32_t text : {1, 5, 24, 29}) {
        SummaryLayout layout = {.sequences = 1, .text_tokens = text, .chunk_size = k, .summary_tokens = m};
        layout.live_chunks = layout.chunks();
        for (const AttentionWindow& window : Windows()) {
          ExpectRangesMatch(layout, window);
        }
      }
    }
  }
}

TEST(SummaryLayout, RangesMatchVisibleWithDocuments) {
  const Packed packed = Pack(30, 4, 2, {5, 1, 9, 4, 2});
  for (const AttentionWindow& window : Windows()) {
    ExpectRangesMatch(packed.layout, window);
  }
}

TEST(SummaryLayout, SmallMaskByHand) {
  // k = 2, m = 1, w = 1, T = 7: text i sees the text of its chunk and the one before, and older summaries.
  const SummaryLayout layout = {
      .sequences = 1, .text_tokens = 7, .chunk_size = 2, .summary_tokens = 1, .live_chunks = 4};
  const std::vector<std::string> expected = {
      // text 0..6 | summary 0..3
      "1000000|0000",
      "1100000|0000",
      "1110000|0000",
      "1111000|0000",
      "0011100|1000",
      "0011110|1000",
      "0000111|1100",
      "1100000|1000",
      "0011000|0100",
      "0000110|0010",
      "0000001|0001",
  };
  for (int32_t q = 0; q < 11; ++q) {
    for (int32_t key = 0; key < 11; ++key) {
      const RowId query = q < 7 ? RowId{false, q} : RowId{true, q - 7};
      const RowId other = key < 7 ? RowId{false, key} : RowId{true, key - 7};
      const char mark = expected[static_cast<size_t>(q)][static_cast<size_t>(key < 7 ? key : key + 1)];
      EXPECT_EQ(Visible(layout, AttentionWindow::Ksa(1), 0, query, other), mark == '1') << q << " " << key;
    }
  }
}

TEST(SummaryLayout, LiveChunksAreThoseSomeTextSees) {
  for (int32_t chunks = 1; chunks < 12; ++chunks) {
    const SummaryLayout layout = {
        .sequences = 1, .text_tokens = chunks * 3, .chunk_size = 3, .summary_tokens = 1, .live_chunks = chunks};
    for (int32_t w = 0; w < 14; ++w) {
      int32_t live = 0;
      for (int32_t c = 0; c < chunks; ++c) {
        for (int32_t i = 0; i < layout.text_tokens; ++i) {
          if (Visible(layout, AttentionWindow::Ksa(w), 0, {false, i}, {true, c})) {
            live = c + 1;
          }
        }
      }
      EXPECT_EQ(LiveChunks(chunks, w), live) << chunks << " chunks, window " << w;
    }
  }
}

// Rule of the overlap: text sees what stands for the chunks that have ended, in its window too.
TEST(SummaryLayout, SmallMaskByHandWithOverlap) {
  // k = 2, m = 1, w = 1, T = 7.
  const SummaryLayout layout = {
      .sequences = 1, .text_tokens = 7, .chunk_size = 2, .summary_tokens = 1, .live_chunks = 4};
  const std::vector<std::string> expected = {
      "1000000|0000", "1100000|1000", "1110000|1000", "1111000|1100", "0011100|1100", "0011110|1110", "0000111|1110"};
  for (int32_t q = 0; q < 7; ++q) {
    for (int32_t key = 0; key < 11; ++key) {
      const RowId other = key < 7 ? RowId{false, key} : RowId{true, key - 7};
      const char mark = expected[static_cast<size_t>(q)][static_cast<size_t>(key < 7 ? key : key + 1)];
      EXPECT_EQ(Visible(layout, AttentionWindow::Hca(1, true), 0, {false, q}, other), mark == '1') << q << " " << key;
    }
  }
}

TEST(SummaryLayout, LiveChunksOfAWindow) {
  for (int32_t tokens = 1; tokens < 20; ++tokens) {
    const SummaryLayout layout = {
        .sequences = 1, .text_tokens = tokens, .chunk_size = 3, .summary_tokens = 1, .live_chunks = (tokens + 2) / 3};
    for (const AttentionWindow& window : Windows()) {
      int32_t live = 0;
      for (int32_t c = 0; c < layout.chunks(); ++c) {
        for (int32_t i = 0; i < tokens; ++i) {
          if (Visible(layout, window, 0, {false, i}, {true, c})) {
            live = c + 1;
          }
        }
      }
      EXPECT_EQ(LiveChunks(layout, window), live) << tokens << " tokens, window " << window.chunks;
    }
  }
}

TEST(SummaryLayout, Positions) {
  SummaryLayout layout = {.sequences = 1, .text_tokens = 13, .chunk_size = 8, .summary_tokens = 2, .live_chunks = 2};
  EXPECT_EQ(layout.SummaryPosition(0, 0), 3);
  EXPECT_EQ(layout.SummaryPosition(0, 1), 7);
  EXPECT_EQ(layout.SummaryPosition(0, 2), 8 + 1);
  EXPECT_EQ(layout.SummaryPosition(0, 3), 8 + 4);
  EXPECT_EQ(layout.Position(12), 12);
  EXPECT_EQ(layout.Position(13 + 3), 12);
  layout.summary_positions = SummaryPositions::kChunkStart;
  EXPECT_EQ(layout.SummaryPosition(0, 0), 0);
  EXPECT_EQ(layout.SummaryPosition(0, 1), 3);
  layout.text_positions = TextPositions::kInnerChunk;
  EXPECT_EQ(layout.Position(12), 4);
  layout.text_positions = TextPositions::kZero;
  EXPECT_EQ(layout.Position(12), 0);
  const Packed packed = Pack(30, 4, 2, {5, 1, 9});
  EXPECT_EQ(packed.layout.TextPosition(0, 9), 1);
  EXPECT_EQ(packed.layout.TextPosition(0, 12), 0);
  EXPECT_EQ(packed.layout.SummaryPosition(0, 7), 3);
}

}  // namespace
}  // namespace ksa
