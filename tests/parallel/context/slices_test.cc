#include "parallel/context/slices.h"

#include <set>

#include <gtest/gtest.h>

#include "kernels/core/error.h"

namespace ksa {
namespace {

SummaryLayout Whole(int32_t sequences, int32_t tokens, int32_t k, int32_t m, int32_t live) {
  return {.sequences = sequences, .text_tokens = tokens, .chunk_size = k, .summary_tokens = m, .live_chunks = live};
}

TEST(ContextSlicesTest, EveryChunkHasOneOwner) {
  for (int ranks = 1; ranks <= 5; ++ranks) {
    for (int32_t chunks = ranks == 1 ? 0 : 2 * ranks; chunks < 4 * ranks + 3; ++chunks) {
      const ContextSlices slices(chunks, ranks);
      int32_t next = 0;
      for (int s = 0; s < slices.slices(); ++s) {
        const Range slice = slices.Chunks(s);
        EXPECT_EQ(slice.begin, next);
        EXPECT_EQ(slice.begin, s * chunks / (2 * ranks));
        EXPECT_GE(slice.size(), ranks == 1 ? 0 : 1);
        next = slice.end;
        const auto own = slices.ChunksOf(slices.Owner(s));
        EXPECT_EQ(own[s < ranks ? 0 : 1].begin, slice.begin);
        EXPECT_EQ(own[s < ranks ? 0 : 1].end, slice.end);
      }
      EXPECT_EQ(next, chunks);
    }
  }
}

TEST(ContextSlicesTest, TheLastRankHasOneRun) {
  const ContextSlices slices(13, 3);
  EXPECT_EQ(slices.RunsOf(0).size(), 2U);
  EXPECT_EQ(slices.RunsOf(1).size(), 2U);
  ASSERT_EQ(slices.RunsOf(2).size(), 1U);
  EXPECT_EQ(slices.RunsOf(2)[0].begin, 4);
  EXPECT_EQ(slices.RunsOf(2)[0].end, 8);
}

TEST(ContextSlicesTest, RefusesSlicesWithoutAChunk) {
  EXPECT_NO_THROW(ContextSlices(1, 1));
  EXPECT_NO_THROW(ContextSlices(6, 3));
  EXPECT_THROW(ContextSlices(5, 3), Error);
  EXPECT_THROW(ContextSlices(5, 0), Error);
}

// Every row of the batch is one rank's, and means the same there: chunk, place in its chunk, positions.
TEST(LocalLayoutTest, RowsArePartitionedAndKeepTheirMeaning) {
  for (const SummaryLayout& whole :
       {Whole(1, 41, 4, 2, 9), Whole(2, 40, 4, 1, 3), Whole(3, 23, 2, 3, 0), Whole(2, 17, 1, 0, 0)}) {
    for (int ranks = 1; ranks <= 4; ++ranks) {
      std::set<int64_t> seen;
      for (int rank = 0; rank < ranks; ++rank) {
        const SummaryLayout local = MakeLocalLayout(whole, ranks, rank);
        int64_t next = 0;
        for (const RowSegment& segment : SegmentsOf(whole, ranks, rank, true)) {
          EXPECT_EQ(segment.local, next);
          next += segment.rows;
          for (int64_t i = 0; i < segment.rows; ++i) {
            const int64_t here = segment.local + i;
            const int64_t there = segment.whole + i;
            EXPECT_TRUE(seen.insert(there).second) << "row " << there << " has two owners";
            EXPECT_EQ(here < local.text_rows(), there < whole.text_rows());
            EXPECT_EQ(local.Position(here), whole.Position(there)) << "row " << there << " of " << ranks << " ranks";
          }
        }
        EXPECT_EQ(next, local.rows());
        for (int32_t place = 0; place < local.chunks(); ++place) {
          EXPECT_EQ(PlaceOf(local, local.ChunkAt(place)), place);
        }
        EXPECT_EQ(local.total(), whole.text_tokens);
        int64_t text = 0;
        for (const RowSegment& segment : SegmentsOf(whole, ranks, rank, false)) {
          text += segment.rows;
        }
        EXPECT_EQ(text, local.text_rows());
      }
      EXPECT_EQ(static_cast<int64_t>(seen.size()), whole.rows());
    }
  }
}

TEST(LocalLayoutTest, OneRankHoldsTheWhole) {
  const SummaryLayout whole = Whole(2, 5, 4, 1, 1);
  const SummaryLayout local = MakeLocalLayout(whole, 1, 0);
  EXPECT_EQ(local.total_tokens, 0);
  EXPECT_EQ(local.text_tokens, 5);
  EXPECT_EQ(local.run_chunks, INT32_MAX);
}

TEST(LocalLayoutTest, RefusesAPart) {
  const SummaryLayout part = MakeLocalLayout(Whole(1, 40, 4, 1, 3), 2, 0);
  EXPECT_THROW((void)MakeLocalLayout(part, 2, 0), Error);
}

}  // namespace
}  // namespace ksa
