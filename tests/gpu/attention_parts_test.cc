// Attention on the GPU as ranks call it that share sequences: text queries of a part with gathered summaries, and the
// summary queries of two runs of chunks.
#include "tests/kernels/attention/attention_parts.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "tests/gpu/attention_case_list.h"
#include "tests/gpu/attention_gpu.h"

namespace ksa::testing {
namespace {

struct Shared {
  AttentionCase whole;
  int32_t ranks;
};

std::vector<AttentionCase> CallsOf(const std::vector<Shared>& cases) {
  std::vector<AttentionCase> calls;
  for (const Shared& c : cases) {
    for (AttentionCase& call : CallsOfRanks(c.whole, c.ranks)) {
      calls.push_back(std::move(call));
    }
  }
  return calls;
}

TEST_P(AttentionGpu, PartsOfKsaLayers) {
  const auto ksa = [](const CaseSizes& sizes, int32_t w, bool all_live = false) {
    return GpuCase(sizes, AttentionWindow::Ksa(w), all_live);
  };
  ExpectMatchTheCpu(CallsOf({{ksa({1033, 8, 1, 4, 2, 128}, 4), 2},
                             {ksa({1024, 8, 1, 2, 1, 64}, 16), 2},
                             {ksa({700, 3, 2, 2, 2, 64, 2}, 0), 3},
                             {ksa({1023, 4, 1, 2, 1, 128}, 33, true), 4},
                             {ksa({333, 16, 3, 3, 3, 128}, 1), 4},
                             {ksa({777, 1, 1, 1, 1, 64}, 100), 2},
                             {ksa({900, 8, 1, 2, 2, 128, 2}, 100), 2}}));
}

// Enough blocks of queries that the list of one tile of keys is divided, and heads that share it.
TEST_P(AttentionGpu, PartsOfLongSequences) {
  ExpectMatchTheCpu(CallsOf({{GpuCase({4100, 8, 1, 8, 1, 128}, AttentionWindow::Ksa(16)), 2},
                             {TextOnly(GpuCase({2050, 8, 1, 8, 1, 64}, AttentionWindow::Full())), 2}}));
}

TEST_P(AttentionGpu, PartsOfOtherLayers) {
  const AttentionWindow full = AttentionWindow::Full();
  const auto tokens = AttentionWindow::SlidingTokens;
  const auto chunks = AttentionWindow::SlidingChunks;
  ExpectMatchTheCpu(CallsOf({{TextOnly(GpuCase({1033, 8, 1, 4, 2, 128}, full)), 3},
                             {GpuCase({1000, 4, 2, 2, 1, 64, 2}, full, true), 2},
                             {TextOnly(GpuCase({1033, 8, 1, 2, 2, 128}, tokens(200))), 4},
                             {GpuCase({600, 16, 3, 3, 3, 64}, tokens(129), true), 2},
                             {TextOnly(GpuCase({500, 8, 1, 2, 2, 64}, tokens(1))), 2},
                             {TextOnly(GpuCase({1033, 8, 1, 2, 2, 128}, chunks(0))), 2},
                             {GpuCase({1023, 3, 1, 2, 1, 64}, chunks(40), true), 3}}));
}

TEST_P(AttentionGpu, PartsWithDocuments) {
  const auto mixed = [](int32_t i) { return (i + 2) * 37 % 301; };
  const auto small = [](int32_t i) { return std::vector<int32_t>{11, 0, 5, 18, 3, 1}[static_cast<size_t>(i % 6)]; };
  ExpectMatchTheCpu(
      CallsOf({{Packed(GpuCase({1033, 8, 1, 4, 2, 128}, AttentionWindow::Ksa(4)), mixed), 2},
               {Packed(GpuCase({700, 3, 2, 2, 1, 64, 2}, AttentionWindow::Ksa(0)), mixed), 3},
               {Packed(GpuCase({260, 4, 3, 3, 1, 64, 2}, AttentionWindow::Ksa(1)), small), 4},
               {Packed(GpuCase({700, 8, 1, 2, 2, 128}, AttentionWindow::Full(), true), mixed), 2},
               {Packed(TextOnly(GpuCase({700, 8, 1, 2, 2, 128}, AttentionWindow::SlidingTokens(100))), mixed), 2},
               {Packed(GpuCase({700, 8, 1, 2, 2, 64}, AttentionWindow::SlidingChunks(5), true), mixed), 2}}));
}

// Fewer chunks than slices: text calls without queries, ranks without rows.
TEST_P(AttentionGpu, PartsThatAreEmpty) {
  ExpectMatchTheCpu(CallsOf({{GpuCase({7, 8, 1, 2, 1, 64}, AttentionWindow::Ksa(0), true), 2},
                             {GpuCase({21, 8, 2, 2, 2, 128, 2}, AttentionWindow::Ksa(0)), 4},
                             {TextOnly(GpuCase({17, 8, 1, 2, 1, 128}, AttentionWindow::Full())), 2}}));
}

// Text behind the queries is a key of nobody.
TEST_P(AttentionGpu, PartsWithTextBehindTheQueries) {
  std::vector<AttentionCase> calls;
  for (const AttentionWindow& window :
       {AttentionWindow::Ksa(4), AttentionWindow::Full(), AttentionWindow::SlidingTokens(70)}) {
    const AttentionCase whole = GpuCase({1033, 8, 1, 4, 2, 128}, window, true);
    for (int32_t slice = 0; slice < 4; ++slice) {
      calls.push_back(TextCall(whole, 2, 0, slice, 1 + 12 * slice));
    }
  }
  ExpectMatchTheCpu(calls);
}

// A range of queries that begins and ends inside of chunks.
TEST_P(AttentionGpu, AnyRangeOfQueries) {
  std::vector<AttentionCase> calls;
  for (const AttentionWindow& window :
       {AttentionWindow::Ksa(3), AttentionWindow::Full(), AttentionWindow::SlidingTokens(70)}) {
    for (const Range queries : {Range{1, 2}, Range{130, 131}, Range{77, 413}, Range{300, 517}}) {
      AttentionCase call = WithoutSummaryQueries(GpuCase({517, 8, 1, 4, 2, 64}, window, true));
      call.layout.query_begin = queries.begin;
      call.layout.query_end = queries.end;
      calls.push_back(call);
    }
  }
  ExpectMatchTheCpu(calls);
}

}  // namespace
}  // namespace ksa::testing
