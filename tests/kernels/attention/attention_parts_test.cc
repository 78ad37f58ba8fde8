// Attention by the calls of context parallelism: put together they compute what the reference does of whole sequences.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "kernels/attention/attention.h"
#include "kernels/core/error.h"
#include "kernels/core/host_allocator.h"
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
  HostAllocator pool;
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

struct Mistake {
  std::string message;
  std::function<void(AttentionForwardArgs&)> make;
};

void ExpectRefused(const AttentionCase& call, const std::vector<Mistake>& mistakes) {
  HostAllocator pool;
  const AttentionTensors tensors(call, DType::kF32, pool);
  EXPECT_NO_THROW(tensors.Run(call, {}, &pool));
  for (const Mistake& mistake : mistakes) {
    AttentionForwardArgs args = tensors.Forward(call, &pool);
    mistake.make(args);
    try {
      AttentionForward(args, {});
      ADD_FAILURE() << "accepted: " << mistake.message;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(mistake.message), std::string::npos) << error.what();
    }
  }
}

// 7 chunks, the last of 2 tokens; 5 live.
AttentionCase SmallWhole() {
  AttentionCase c;
  c.layout = {.sequences = 1, .text_tokens = 50, .chunk_size = 8, .summary_tokens = 2, .live_chunks = 5};
  c.window = AttentionWindow::Ksa(1);
  return c;
}

TEST(AttentionParts, RefuseWrongTextCalls) {
  const AttentionCase call = TextCall(SmallWhole(), 1, 0, 1);  // chunks [2, 7), of which the first is halo
  ExpectRefused(call,
                {{"q has 20 rows; the layout has 26 text queries", [](auto& a) { a.q = a.q.Rows(0, 20); }},
                 {"k and v have 20 rows; the layout has 44 rows, 34 of text", [](auto& a) { a.k = a.k.Rows(0, 20); }},
                 {"queries [8, 35) of 34 rows of text", [](auto& a) { a.layout.query_end = 35; }},
                 {"queries [-1, 34)", [](auto& a) { a.layout.query_begin = -1; }},
                 {"queries [35, 34)", [](auto& a) { a.layout.query_begin = 35; }},
                 {"see the sequence's tokens from 8 on, but its text is here only from chunk 2 on",
                  [](auto& a) { a.layout.query_begin = 7; }},
                 {"tokens from 0 on, but", [](auto& a) { a.window = AttentionWindow::Full(); }},
                 {"tokens from 14 on, but", [](auto& a) { a.window = AttentionWindow::SlidingTokens(11); }},
                 {"parts of 2 sequences in one call",
                  [](auto& a) {
                    a.layout.sequences = 2;
                    a.k.shape = a.v.shape = {2 * a.k.shape[0], a.k.shape[1], a.k.shape[2]};
                  }},
                 {"only 4 are live",
                  [](auto& a) {
                    a.layout.live_chunks = 4;
                    a.k = a.k.Rows(0, 42);
                    a.v = a.v.Rows(0, 42);
                  }},
                 {"k and v hold text rows only",
                  [](auto& a) {
                    a.k = a.k.Rows(0, 34);
                    a.v = a.v.Rows(0, 34);
                  }},
                 {"gather them", [](auto& a) { a.layout.gathered_summaries = false; }},
                 {"8 live chunks", [](auto& a) { a.layout.live_chunks = 8; }},
                 {"34 rows of text end inside a chunk that goes on", [](auto& a) { a.layout.total_tokens = 56; }},
                 {"no two runs of a sequence of 6 chunks", [](auto& a) { a.layout.total_tokens = 42; }},
                 {"text queries of two runs of chunks in one call",
                  [](auto& a) {
                    a.layout.run_chunks = 3;
                    a.layout.second_chunk = 5;
                    a.layout.first_chunk = 1;
                  }},
                 {"gathered summaries are no queries", [](auto& a) { a.text_queries = false; }}});
}

TEST(AttentionParts, RefuseWrongSummaryCalls) {
  const AttentionCase call = SummaryCall(SmallWhole(), 2, 0);  // chunks 0 and 5, 6
  ExpectRefused(call,
                {{"q has 1 rows; the layout has 2 rows of summaries", [](auto& a) { a.q = a.q.Rows(0, 1); }},
                 {"k and v hold text rows only",
                  [](auto& a) {
                    a.k = a.k.Rows(0, 18);
                    a.v = a.v.Rows(0, 18);
                  }},
                 {"a range of text queries, but", [](auto& a) { a.layout.query_begin = 8; }},
                 {"text queries of two runs of chunks in one call", [](auto& a) { a.text_queries = true; }},
                 {"no two runs of a sequence of 7 chunks", [](auto& a) { a.layout.second_chunk = 0; }},
                 {"no two runs of a sequence of 7 chunks", [](auto& a) { a.layout.second_chunk = 6; }}});
}

}  // namespace
}  // namespace ksa::testing
