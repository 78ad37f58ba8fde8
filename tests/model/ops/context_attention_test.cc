// Attention over sequences that are spread over ranks against attention on one rank.
#include "model/ops/context_attention.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "model/ops/attention.h"
#include "parallel/comm/threads.h"
#include "parallel/context/keys_plan.h"
#include "parallel/context/slices.h"
#include "tests/support/kernel_test.h"
#include "tests/support/take_rows.h"

namespace ksa {
namespace {

using testing::GuardAllocator;
using testing::RelativeDifference;
using testing::ToDouble;

constexpr int kHeadDim = 4;

struct Case {
  std::string name;
  SummaryLayout whole;
  AttentionWindow window;
  int64_t heads = 4;
  int64_t kv_heads = 2;
  bool summary_queries = true;
  bool summary_keys = true;

  [[nodiscard]] int64_t Rows(bool summaries) const { return summaries ? whole.rows() : whole.text_rows(); }
};

SummaryLayout Layout(int32_t sequences, int32_t tokens, int32_t k, int32_t m, int32_t live) {
  return {.sequences = sequences, .text_tokens = tokens, .chunk_size = k, .summary_tokens = m, .live_chunks = live};
}

// Three documents and padding: 7, 16 and 3 tokens in chunks of 3, in two sequences that differ.
const std::vector<int32_t> kFirstChunk = {0, 0, 0, 3, 3, 3, 3, 3, 3, 9, 10, 0, 1, 1, 1, 1, 1, 1, 7, 7, 7, 10};
const std::vector<int32_t> kTokens = {3, 3, 1, 3, 3, 3, 3, 3, 1, 3, 0, 3, 3, 3, 3, 3, 3, 1, 3, 3, 1, 0};

SummaryLayout Documents(int32_t m, int32_t live) {
  SummaryLayout layout = Layout(2, 33, 3, m, live);
  layout.document_first_chunk = kFirstChunk.data();
  layout.chunk_tokens = kTokens.data();
  return layout;
}

// Chunks of 3, the last one short: 17 of them, or 9, so that slices hold one to eight.
std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const int32_t w : {0, 1, 3, 9}) {
    cases.push_back({fmt::format("ksa, w {}", w), Layout(2, 50, 3, 1, LiveChunks(17, w)), AttentionWindow::Ksa(w)});
  }
  cases.push_back({"ksa, w 2, m 2, more live than seen", Layout(1, 50, 3, 2, 16), AttentionWindow::Ksa(2)});
  cases.push_back({"ksa, few live summaries", Layout(1, 50, 3, 2, 2), AttentionWindow::Ksa(14)});
  cases.push_back({"ksa, none live", Layout(1, 25, 3, 2, 0), AttentionWindow::Ksa(20), 4, 2, false, false});
  cases.push_back({"ksa, text queries alone", Layout(2, 26, 3, 2, 7), AttentionWindow::Ksa(1), 4, 4, false});
  cases.push_back({"ksa, chunks of one token", Layout(2, 11, 1, 1, 9), AttentionWindow::Ksa(1)});
  cases.push_back({"ksa, documents, w 1", Documents(2, 9), AttentionWindow::Ksa(1)});
  cases.push_back({"ksa, documents, w 0", Documents(1, 10), AttentionWindow::Ksa(0), 4, 2, false});
  cases.push_back({"full, summaries attend", Layout(2, 25, 3, 2, 6), AttentionWindow::Full()});
  cases.push_back({"full, text alone", Layout(2, 25, 3, 2, 6), AttentionWindow::Full(), 4, 4, false, false});
  cases.push_back({"full, no summary rows", Layout(1, 11, 1, 0, 0), AttentionWindow::Full(), 4, 1, false, false});
  cases.push_back({"full, documents", Documents(1, 7), AttentionWindow::Full()});
  cases.push_back({"sca, summaries attend", Layout(2, 50, 3, 1, 9), AttentionWindow::SlidingChunks(2)});
  cases.push_back({"sca, w 0", Layout(1, 50, 3, 0, 0), AttentionWindow::SlidingChunks(0), 4, 2, false, false});
  for (const int32_t tokens : {1, 4, 13}) {
    cases.push_back(
        {fmt::format("swa, {} tokens", tokens), Layout(2, 25, 3, 1, 5), AttentionWindow::SlidingTokens(tokens)});
  }
  cases.push_back({"swa, documents", Documents(1, 7), AttentionWindow::SlidingTokens(5)});
  return cases;
}

struct Inputs {
  Tensor q, k, v, dout;
};

Inputs MakeInputs(const Case& c, DType dtype, Allocator& memory) {
  const int64_t nq = c.Rows(c.summary_queries);
  const int64_t nk = c.Rows(c.summary_keys);
  return {testing::Normal("q", {nq, c.heads * kHeadDim}, dtype, memory),
          testing::Normal("k", {nk, c.kv_heads * kHeadDim}, dtype, memory),
          testing::Normal("v", {nk, c.kv_heads * kHeadDim}, dtype, memory),
          testing::Normal("dout", {nq, c.heads * kHeadDim}, dtype, memory)};
}

struct Outputs {
  Tensor out, dq, dk, dv;
};

Placements HeadsPlacement() {
  return Placements::Rows(Placement::Sharded(1));
}

// Records attention of leaves and runs backward.
template <typename Op>
Outputs Run(ExecContext cx, const Inputs& x, const Op& op) {
  Tape tape;
  cx.tape = &tape;
  const Var q = Leaf(cx, x.q, HeadsPlacement());
  const Var k = Leaf(cx, x.k, HeadsPlacement());
  const Var v = Leaf(cx, x.v, HeadsPlacement());
  const Var out = op(cx, q, k, v);
  tape.Backward(cx, out, x.dout);
  return {out.value, tape.TakeGrad(q.slot), tape.TakeGrad(k.slot), tape.TakeGrad(v.slot)};
}

Outputs OnOneRank(const Case& c, const Inputs& x, Allocator& memory) {
  ExecContext cx;
  cx.allocator = &memory;
  return Run(cx, x, [&](const ExecContext& inner, const Var& q, const Var& k, const Var& v) {
    return Attention(inner, q, k, v, {.layout = c.whole, .window = c.window, .head_dim = kHeadDim});
  });
}

void ExpectRows(const Tensor& actual,
                const Tensor& whole,
                const std::vector<RowSegment>& segments,
                double tolerance,
                const std::string& what) {
  GuardAllocator memory;
  ASSERT_FALSE(actual.empty()) << what;
  const Tensor expected = testing::TakeRows(whole, segments, memory);
  ASSERT_EQ(actual.shape(), expected.shape()) << what;
  // Relative to the whole tensor: a rank's own rows may all be zero.
  double largest = 0.0;
  for (const double x : ToDouble(whole)) {
    largest = std::max(largest, std::abs(x));
  }
  std::vector<double> scaled = ToDouble(expected);
  std::vector<double> got = ToDouble(actual);
  scaled.push_back(largest);
  got.push_back(largest);
  EXPECT_LE(RelativeDifference(got, scaled), tolerance) << what;
}

std::vector<ContextMethod> MethodsOf(const Case& c, int ranks) {
  std::vector<ContextMethod> methods = {ContextMethod::kAuto, ContextMethod::kKeys};
  if (c.heads % ranks == 0 && c.kv_heads % ranks == 0) {
    methods.push_back(ContextMethod::kHeads);
  }
  return methods;
}

Outputs OnRanks(const ExecContext& cx, const Case& c, const Inputs& x, ContextMethod method) {
  return Run(cx, x, [&](const ExecContext& inner, const Var& q, const Var& k, const Var& v) {
    const auto keys = StartContextKeys(
        inner, k, v, c.heads, {.whole = c.whole, .window = c.window, .head_dim = kHeadDim, .method = method});
    return ContextAttention(inner, q, keys);
  });
}

// One rank's inputs out of those of whole sequences.
Inputs LocalInputs(const Case& c, const Inputs& x, const Communicator& world, Allocator& memory) {
  const auto q_rows = SegmentsOf(c.whole, world.size(), world.rank(), c.summary_queries);
  const auto k_rows = SegmentsOf(c.whole, world.size(), world.rank(), c.summary_keys);
  return {testing::TakeRows(x.q, q_rows, memory),
          testing::TakeRows(x.k, k_rows, memory),
          testing::TakeRows(x.v, k_rows, memory),
          testing::TakeRows(x.dout, q_rows, memory)};
}

void ExpectEqualsOneRank(const Case& c, int ranks, ContextMethod method, DType dtype, double tolerance) {
  GuardAllocator memory;
  const Inputs inputs = MakeInputs(c, dtype, memory);
  const Outputs expected = OnOneRank(c, inputs, memory);
  RunRanks(ranks, [&](Communicator& world) {
    GuardAllocator own;
    const ProcessMesh mesh(world, {.data = 1, .context = ranks, .tensor = 1});
    ExecContext cx;
    cx.allocator = &own;
    cx.mesh = &mesh;
    const Outputs outputs = OnRanks(cx, c, LocalInputs(c, inputs, world, own), method);
    const std::string rank = fmt::format("{}, rank {} of {}", c.name, world.rank(), ranks);
    const auto q_rows = SegmentsOf(c.whole, ranks, world.rank(), c.summary_queries);
    const auto k_rows = SegmentsOf(c.whole, ranks, world.rank(), c.summary_keys);
    ExpectRows(outputs.out, expected.out, q_rows, tolerance, "out of " + rank);
    ExpectRows(outputs.dq, expected.dq, q_rows, tolerance, "dq of " + rank);
    ExpectRows(outputs.dk, expected.dk, k_rows, tolerance, "dk of " + rank);
    ExpectRows(outputs.dv, expected.dv, k_rows, tolerance, "dv of " + rank);
  });
}

TEST(ContextAttentionTest, EqualsOneRank) {
  for (const Case& c : Cases()) {
    for (int ranks = 1; ranks <= 4; ++ranks) {
      for (const ContextMethod method : MethodsOf(c, ranks)) {
        SCOPED_TRACE(fmt::format("{}, {} ranks, method {}", c.name, ranks, static_cast<int>(method)));
        ExpectEqualsOneRank(c, ranks, method, DType::kF64, 1e-12);
      }
    }
  }
}

// Each sum is rounded once a call and once where the parts meet, so within a few units of bf16 (2^-8) of the largest.
TEST(ContextAttentionTest, EqualsOneRankInNarrowTypes) {
  for (const Case& c : Cases()) {
    for (const ContextMethod method : MethodsOf(c, 2)) {
      SCOPED_TRACE(fmt::format("{}, method {}", c.name, static_cast<int>(method)));
      ExpectEqualsOneRank(c, 2, method, DType::kF32, 1e-5);
      ExpectEqualsOneRank(c, 2, method, DType::kBF16, 0x1p-6);
    }
  }
}

// Two runs and any number of threads give the same bits, and so does a block that is recomputed.
TEST(ContextAttentionTest, RepeatsInBits) {
  for (const Case& c : Cases()) {
    for (const ContextMethod method : MethodsOf(c, 2)) {
      SCOPED_TRACE(fmt::format("{}, method {}", c.name, static_cast<int>(method)));
      GuardAllocator memory;
      const Inputs inputs = MakeInputs(c, DType::kBF16, memory);
      RunRanks(2, [&](Communicator& world) {
        GuardAllocator own;
        const ProcessMesh mesh(world, {.data = 1, .context = 2, .tensor = 1});
        ExecContext cx;
        cx.allocator = &own;
        cx.mesh = &mesh;
        const Inputs local = LocalInputs(c, inputs, world, own);
        const Outputs first = OnRanks(cx, c, local, method);
        cx.stream.threads = 2;
        const Outputs second = OnRanks(cx, c, local, method);
        testing::ExpectSameBits(second.out, first.out, "out");
        testing::ExpectSameBits(second.dq, first.dq, "dq");
        testing::ExpectSameBits(second.dk, first.dk, "dk");
        testing::ExpectSameBits(second.dv, first.dv, "dv");
        KeptTensors kept;
        cx.kept = &kept;
        (void)OnRanks(cx, c, local, method);
        kept.replay = true;
        const Outputs replayed = OnRanks(cx, c, local, method);
        EXPECT_EQ(kept.next, kept.tensors.size());
        testing::ExpectSameBits(replayed.out, first.out, "out of a replay");
        testing::ExpectSameBits(replayed.dq, first.dq, "dq of a replay");
        testing::ExpectSameBits(replayed.dk, first.dk, "dk of a replay");
        testing::ExpectSameBits(replayed.dv, first.dv, "dv of a replay");
      });
    }
  }
}

CommCount ExchangeCount(const ProcessMesh& mesh) {
  return mesh.group(MeshAxis::kContext).counts()[static_cast<size_t>(CollectiveKind::kExchange)];
}

// Bytes that the communicator counted are those of the sets.
TEST(ContextAttentionTest, MovesTheBytesOfItsSets) {
  for (const Case& c : Cases()) {
    for (int ranks = 2; ranks <= 4; ++ranks) {
      SCOPED_TRACE(fmt::format("{}, {} ranks", c.name, ranks));
      GuardAllocator memory;
      const Inputs inputs = MakeInputs(c, DType::kF32, memory);
      RunRanks(ranks, [&](Communicator& world) {
        GuardAllocator own;
        const ProcessMesh mesh(world, {.data = 1, .context = ranks, .tensor = 1});
        ExecContext cx;
        cx.allocator = &own;
        cx.mesh = &mesh;
        const Inputs local = LocalInputs(c, inputs, world, own);
        (void)OnRanks(cx, c, local, ContextMethod::kKeys);
        const ExchangedRows rows = RowsOf(PlanKeys(c.whole, c.window, ranks, world.rank()), c.whole);
        const int64_t row_bytes = 2 * c.kv_heads * kHeadDim * SizeOf(DType::kF32);
        // Forward the keys, backward as many gradients the other way.
        EXPECT_EQ(ExchangeCount(mesh).sent, (rows.sent + rows.received) * row_bytes);
        EXPECT_EQ(ExchangeCount(mesh).received, (rows.sent + rows.received) * row_bytes);
        EXPECT_LE(ExchangeCount(mesh).calls, 2);
      });
    }
  }
}

TEST(ContextAttentionTest, MovesTheBytesOfItsHeads) {
  for (const Case& c : Cases()) {
    if (c.kv_heads % 2 != 0) {
      continue;
    }
    SCOPED_TRACE(c.name);
    GuardAllocator memory;
    const Inputs inputs = MakeInputs(c, DType::kF32, memory);
    RunRanks(2, [&](Communicator& world) {
      GuardAllocator own;
      const ProcessMesh mesh(world, {.data = 1, .context = 2, .tensor = 1});
      ExecContext cx;
      cx.allocator = &own;
      cx.mesh = &mesh;
      (void)OnRanks(cx, c, LocalInputs(c, inputs, world, own), ContextMethod::kHeads);
      const bool summaries = c.window.summaries && c.whole.live_summaries() > 0;
      const ExchangedRows q = HeadExchangeElements(c.whole, 2, world.rank(), false, c.heads * kHeadDim);
      const ExchangedRows k = HeadExchangeElements(c.whole, 2, world.rank(), summaries, c.kv_heads * kHeadDim);
      // There: q, k, v; out and its gradient. Back: out; dq, dk, dv.
      const int64_t there_sent = 3 * q.sent + 2 * k.sent;
      const int64_t back_sent = 2 * q.received + 2 * k.received;
      EXPECT_EQ(ExchangeCount(mesh).sent, (there_sent + back_sent) * SizeOf(DType::kF32));
    });
  }
}

TEST(ContextAttentionTest, RefusesHeadsThatDoNotDivide) {
  const Case c = {"", Layout(1, 25, 3, 0, 0), AttentionWindow::Full(), 3, 3, false, false};
  GuardAllocator memory;
  const Inputs inputs = MakeInputs(c, DType::kF64, memory);
  const auto run = [&](ContextMethod method) {
    RunRanks(2, [&](Communicator& world) {
      GuardAllocator own;
      const ProcessMesh mesh(world, {.data = 1, .context = 2, .tensor = 1});
      ExecContext cx;
      cx.allocator = &own;
      cx.mesh = &mesh;
      (void)OnRanks(cx, c, LocalInputs(c, inputs, world, own), method);
    });
  };
  EXPECT_THROW(run(ContextMethod::kHeads), Error);
  EXPECT_NO_THROW(run(ContextMethod::kAuto));
}

}  // namespace
}  // namespace ksa
