// Plans against sets of chunks made by brute force from Visible.
#include "parallel/context/keys_plan.h"

#include <set>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "parallel/context/slices.h"

namespace ksa {
namespace {

using Chunks = std::set<int32_t>;

struct Case {
  SummaryLayout whole;
  AttentionWindow window;
  int ranks = 1;

  [[nodiscard]] std::string ToString() const {
    return fmt::format("T {} k {} live {} P {} window {} {}",
                       whole.text_tokens,
                       whole.chunk_size,
                       whole.live_chunks,
                       ranks,
                       window.chunks,
                       window.tokens);
  }
};

std::vector<Case> Cases() {
  std::vector<AttentionWindow> windows = {AttentionWindow::Full()};
  for (const int32_t w : {0, 1, 2, 3, 7, 100}) {
    windows.push_back(AttentionWindow::Ksa(w));
    windows.push_back(AttentionWindow::SlidingChunks(w));
    windows.push_back(AttentionWindow::SlidingTokens(w + 1));
    windows.push_back(AttentionWindow::SlidingTokens(3 * w + 2));
  }
  std::vector<Case> cases;
  for (int ranks = 1; ranks <= 4; ++ranks) {
    for (const int32_t k : {1, 3}) {
      for (const int32_t chunks : {2 * ranks, 2 * ranks + 1, 5 * ranks + 3}) {
        for (const AttentionWindow& window : windows) {
          SummaryLayout whole = {.sequences = 2, .text_tokens = chunks * k - (k - 1), .chunk_size = k};
          whole.summary_tokens = 2;
          whole.live_chunks = window.summaries ? LiveChunks(chunks, window.chunks) : chunks / 2;
          cases.push_back({whole, window, ranks});
        }
      }
    }
  }
  return cases;
}

Chunks OwnOf(const Case& c, int rank) {
  Chunks own;
  for (const Range& slice : ContextSlices(c.whole.chunks(), c.ranks).ChunksOf(rank)) {
    for (int32_t chunk = slice.begin; chunk < slice.end; ++chunk) {
      own.insert(chunk);
    }
  }
  return own;
}

// Chunks of others whose text some token of the rank sees.
Chunks SeenText(const Case& c, int rank) {
  const Chunks own = OwnOf(c, rank);
  Chunks seen;
  for (int32_t i = 0; i < c.whole.text_tokens; ++i) {
    for (int32_t j = 0; own.count(i / c.whole.chunk_size) > 0 && j <= i; ++j) {
      const int32_t chunk = j / c.whole.chunk_size;
      if (own.count(chunk) == 0 && Visible(c.whole, c.window, 0, {false, i}, {false, j})) {
        seen.insert(chunk);
      }
    }
  }
  return seen;
}

Chunks Collect(const std::vector<ChunkPiece>& pieces, int peer = -1) {
  Chunks chunks;
  for (const ChunkPiece& piece : pieces) {
    for (int32_t chunk = piece.chunks.begin; (peer < 0 || piece.peer == peer) && chunk < piece.chunks.end; ++chunk) {
      EXPECT_TRUE(chunks.insert(chunk).second) << "chunk " << chunk << " travels twice";
    }
  }
  return chunks;
}

TEST(KeysPlanTest, ReceivesWhatItsTextSeesAndNothingElse) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.ToString());
    for (int rank = 0; rank < c.ranks; ++rank) {
      const KeysPlan plan = PlanKeys(c.whole, c.window, c.ranks, rank);
      EXPECT_EQ(Collect(plan.text_receives), SeenText(c, rank));
      Chunks live;
      const Chunks own = OwnOf(c, rank);
      for (int32_t chunk = 0; c.window.summaries && chunk < c.whole.live_chunks; ++chunk) {
        if (own.count(chunk) == 0) {
          live.insert(chunk);
        }
      }
      EXPECT_EQ(Collect(plan.summary_receives), live);
      for (const ChunkPiece& piece : plan.text_receives) {
        const Chunks owner = OwnOf(c, piece.peer);
        EXPECT_TRUE(owner.count(piece.chunks.begin) == 1 && owner.count(piece.chunks.end - 1) == 1);
      }
    }
  }
}

// What a rank sends to a peer is what the peer expects of it, in the same order.
TEST(KeysPlanTest, BothEndsAgree) {
  const auto with = [](const std::vector<ChunkPiece>& pieces, int peer) {
    std::vector<ChunkPiece> chosen;
    for (const ChunkPiece& piece : pieces) {
      if (piece.peer == peer) {
        chosen.push_back({0, piece.chunks});
      }
    }
    return chosen;
  };
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.ToString());
    std::vector<KeysPlan> plans;
    for (int rank = 0; rank < c.ranks; ++rank) {
      plans.push_back(PlanKeys(c.whole, c.window, c.ranks, rank));
    }
    for (int from = 0; from < c.ranks; ++from) {
      for (int to = 0; to < c.ranks; ++to) {
        const KeysPlan& sender = plans[static_cast<size_t>(from)];
        const KeysPlan& receiver = plans[static_cast<size_t>(to)];
        EXPECT_EQ(with(sender.text_sends, to), with(receiver.text_receives, from));
        EXPECT_EQ(with(sender.summary_sends, to), with(receiver.summary_receives, from));
      }
    }
  }
}

// Every run's keys end with its own chunks and lie in its buffer; the buffers hold own and received chunks alone.
TEST(KeysPlanTest, BuffersHoldTheKeysOfTheirRuns) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.ToString());
    for (int rank = 0; rank < c.ranks; ++rank) {
      const KeysPlan plan = PlanKeys(c.whole, c.window, c.ranks, rank);
      Chunks held;
      for (size_t b = 0; b < plan.buffers.size(); ++b) {
        EXPECT_TRUE(b == 0 || plan.buffers[b].begin > plan.buffers[b - 1].end) << "no gap";
        for (int32_t chunk = plan.buffers[b].begin; chunk < plan.buffers[b].end; ++chunk) {
          held.insert(chunk);
        }
      }
      Chunks expected = OwnOf(c, rank);
      const Chunks seen = SeenText(c, rank);
      expected.insert(seen.begin(), seen.end());
      EXPECT_EQ(held, expected);
      for (const QueryRun& run : plan.runs) {
        const Range& buffer = plan.buffers[static_cast<size_t>(run.buffer)];
        EXPECT_TRUE(buffer.begin <= run.keys.begin && run.keys.begin <= run.own.begin);
        EXPECT_TRUE(run.keys.end == run.own.end && run.own.end <= buffer.end);
      }
    }
  }
}

// Rows by the sets, written out: the halo's tokens, and the live summaries of everybody.
TEST(KeysPlanTest, RowsEqualTheSumsOverTheSets) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.ToString());
    int64_t sent = 0;
    int64_t received = 0;
    for (int rank = 0; rank < c.ranks; ++rank) {
      const Chunks own = OwnOf(c, rank);
      int64_t expected = 0;
      for (const int32_t chunk : SeenText(c, rank)) {
        expected += c.whole.ChunkTokens(0, chunk);
      }
      for (int32_t chunk = 0; c.window.summaries && chunk < c.whole.live_chunks; ++chunk) {
        expected += own.count(chunk) == 0 ? c.whole.summary_tokens : 0;
      }
      const ExchangedRows rows = RowsOf(PlanKeys(c.whole, c.window, c.ranks, rank), c.whole);
      EXPECT_EQ(rows.received, c.whole.sequences * expected);
      sent += rows.sent;
      received += rows.received;
    }
    EXPECT_EQ(sent, received);
  }
}

// 16 chunks of 3 tokens over 2 ranks, w = 2: slice 1 and 2 are neighbours on rank 1, which receives the 2 chunks before
// slice 1; rank 0's slice 3 receives the 2 chunks before it. 13 chunks are live, 4 of them (0-3) and one (12) rank 0's.
TEST(KeysPlanTest, ByHand) {
  const SummaryLayout whole = {
      .sequences = 1, .text_tokens = 48, .chunk_size = 3, .summary_tokens = 1, .live_chunks = 13};
  const KeysPlan zero = PlanKeys(whole, AttentionWindow::Ksa(2), 2, 0);
  const KeysPlan one = PlanKeys(whole, AttentionWindow::Ksa(2), 2, 1);
  EXPECT_EQ(zero.text_receives, (std::vector<ChunkPiece>{{1, {10, 12}}}));
  EXPECT_EQ(one.text_receives, (std::vector<ChunkPiece>{{0, {2, 4}}}));
  EXPECT_EQ(zero.summary_sends, (std::vector<ChunkPiece>{{1, {0, 4}}, {1, {12, 13}}}));
  EXPECT_EQ(RowsOf(zero, whole).sent, 2 * 3 + 5);
  EXPECT_EQ(RowsOf(zero, whole).received, 2 * 3 + 8);
  ASSERT_EQ(one.runs.size(), 1U);
  EXPECT_EQ(one.buffers[0].begin, 2);
  EXPECT_EQ(one.buffers[0].end, 12);
}

// Every rank sends all but its own share of the columns, and receives its share of everybody's rows.
TEST(HeadExchangeTest, Elements) {
  const SummaryLayout whole = {
      .sequences = 2, .text_tokens = 22, .chunk_size = 2, .summary_tokens = 1, .live_chunks = 7};
  for (const bool summaries : {false, true}) {
    int64_t sent = 0;
    int64_t received = 0;
    for (int rank = 0; rank < 3; ++rank) {
      const ExchangedRows elements = HeadExchangeElements(whole, 3, rank, summaries, 12);
      sent += elements.sent;
      received += elements.received;
    }
    EXPECT_EQ(sent, 8 * (summaries ? whole.rows() : whole.text_rows()));
    EXPECT_EQ(received, sent);
  }
}

}  // namespace
}  // namespace ksa
