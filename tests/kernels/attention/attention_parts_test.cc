// Attention by the calls of context parallelism: put together they compute what the reference does of whole sequences.
#include <cstdint>
#include <vector>

#include <fmt/core.h>

#include "kernels/attention/attention.h"
#include "tests/kernels/attention/attention_case.h"
#include "tests/kernels/attention/attention_compare.h"
#include "tests/kernels/attention/attention_compose.h"

namespace ksa::testing {
namespace {

void RunOnCpu(const AttentionCase& call, const AttentionTensors& tensors) {
  tensors.Run(call, {}, nullptr);
}

void ExpectSameByRanks(const AttentionCase& c, int32_t ranks, const RunCall& run) {
  SCOPED_TRACE(fmt::format("{} | {} ranks", c.Describe(), ranks));
  GuardAllocator guarded;
  const AttentionTensors actual(c, DType::kF64, guarded);
  const AttentionTensors expected(actual, DType::kF64, guarded);
  RunByRanks(c, ranks, actual, guarded, run);
  RunReference(c, expected);
  ExpectSameInDouble(actual, expected);
}

TEST(AttentionParts, MatchTheReferenceInDouble) {
  for (uint64_t i = 0; i < 300 && !::testing::Test::HasFailure(); ++i) {
    ExpectSameByRanks(MakeCase(5000 + i), 1 + static_cast<int32_t>(i % 4), RunOnCpu);
  }
}

TEST(AttentionParts, TheReferenceOfPartsIsThatOfTheWhole) {
  for (uint64_t i = 0; i < 100 && !::testing::Test::HasFailure(); ++i) {
    ExpectSameByRanks(MakeCase(6000 + i), 1 + static_cast<int32_t>(i % 4), RunReference);
  }
}

TEST(AttentionParts, MatchTheReferenceWhereTheyTakeSeveralTilesAndParts) {
  AttentionCase c;
  c.layout = {.sequences = 1, .text_tokens = 1030, .chunk_size = 8, .summary_tokens = 1, .live_chunks = 125};
  c.window = AttentionWindow::Ksa(4);
  c.dim = 2;
  ExpectSameByRanks(c, 1, RunOnCpu);
  c.Pack([](int32_t i) { return (i + 1) * 37 % 301; });
  ExpectSameByRanks(c, 2, RunOnCpu);
  c.window = AttentionWindow::Full();
  ExpectSameByRanks(c, 2, RunOnCpu);
}

// Queries that begin and end inside chunks.
TEST(AttentionParts, TextQueriesMayBeAnyRange) {
  for (uint64_t i = 0; i < 100 && !::testing::Test::HasFailure(); ++i) {
    AttentionCase c = MakeCase(7000 + i);
    c.query_summaries = false;
    SCOPED_TRACE(c.Describe());
    GuardAllocator guarded;
    const AttentionTensors actual(c, DType::kF64, guarded);
    const AttentionTensors expected(actual, DType::kF64, guarded);
    Composition composition(c, actual, guarded, RunOnCpu);
    for (int32_t sequence = 0; sequence < c.layout.sequences; ++sequence) {
      int32_t begin = 0;
      for (const int32_t end : {c.layout.text_tokens / 3, c.layout.text_tokens / 2, c.layout.text_tokens}) {
        AttentionCase call = TextCall(c, 1, sequence, 0, c.layout.chunks());
        call.layout.query_begin = begin;
        call.layout.query_end = end;
        composition.Add(call, sequence);
        begin = end;
      }
    }
    composition.Finish();
    RunReference(c, expected);
    ExpectSameInDouble(actual, expected);
  }
}

TEST(AttentionParts, AreAsExactAsNaiveArithmeticInFloat) {
  for (const AttentionWindow& window : {AttentionWindow::Ksa(2),
                                        AttentionWindow::Full(),
                                        AttentionWindow::SlidingTokens(20),
                                        AttentionWindow::SlidingChunks(3)}) {
    for (const int32_t ranks : {1, 2, 3, 4}) {
      AttentionCase c;
      c.layout = {.sequences = 2, .text_tokens = 113, .chunk_size = 8, .summary_tokens = 2, .live_chunks = 13};
      c.window = window;
      c.heads = 4;
      c.groups = 2;
      c.dim = 24;
      SCOPED_TRACE(fmt::format("{} | {} ranks", c.Describe(), ranks));
      GuardAllocator guarded;
      const AttentionTensors actual(c, DType::kF32, guarded);
      const AttentionTensors naive(actual, DType::kF32, guarded);
      const AttentionTensors exact(actual, DType::kF64, guarded);
      RunByRanks(c, ranks, actual, guarded, RunOnCpu);
      RunReference(c, naive);
      RunReference(c, exact);
      ExpectNoLessExact(actual, naive, exact);
    }
  }
}

TEST(AttentionParts, SameBitsForAllThreadCounts) {
  PoolAllocator pool;
  AttentionCase c;
  c.layout = {.sequences = 1, .text_tokens = 700, .chunk_size = 8, .summary_tokens = 1, .live_chunks = 84};
  c.window = AttentionWindow::Ksa(3);
  c.heads = 4;
  c.groups = 2;
  for (const DType dtype : kFloatingTypes) {
    for (const AttentionCase& call : {TextCall(c, 1, 0, 1), SummaryCall(c, 2, 0)}) {
      ExpectSameForAllThreadCounts([&](const Stream& stream) {
        const AttentionTensors tensors(call, dtype, pool);
        tensors.Run(call, stream, &pool);
        return std::vector<Tensor>{tensors.out, tensors.lse, tensors.dq, tensors.dk, tensors.dv};
      });
    }
  }
}

// A part of another rank's: no queries, and no key that anybody sees.
TEST(AttentionParts, WithoutQueriesKeysHaveNoGradient) {
  GuardAllocator guarded;
  AttentionCase c;
  c.layout = {.sequences = 1, .text_tokens = 50, .chunk_size = 8, .summary_tokens = 2, .live_chunks = 6};
  c.window = AttentionWindow::Ksa(1);
  AttentionCase text = TextCall(c, 1, 0, 1);
  text.layout.query_end = text.layout.query_begin;
  AttentionCase summaries = SummaryCall(c, 1, 0);
  summaries.layout.live_chunks = 0;
  for (const AttentionCase& call : {text, summaries}) {
    SCOPED_TRACE(call.Describe());
    const AttentionTensors tensors(call, DType::kF32, guarded);
    ASSERT_EQ(tensors.q.rows(), 0);
    tensors.Run(call, {}, &guarded);
    for (const Tensor* gradient : {&tensors.dk, &tensors.dv}) {
      EXPECT_GT(gradient->size(), 0);
      EXPECT_EQ(Largest(*gradient), 0.0);
    }
  }
}

}  // namespace
}  // namespace ksa::testing
