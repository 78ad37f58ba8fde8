#include "model/ops/attention.h"

#include <cmath>

#include "tests/support/jacobian.h"

namespace ksa {
namespace {

using testing::Input;
using testing::OpTest;
using testing::RelativeDifference;
using testing::ToDouble;
using testing::Vars;

// A shape, a window, and whether the summary rows are there.
struct Case {
  const char* name;
  SummaryLayout layout;
  AttentionWindow window;
  int64_t heads = 2;
  int64_t kv_heads = 2;
  bool summary_queries = true;
  bool summary_keys = true;
};

SummaryLayout Layout(int32_t sequences, int32_t tokens, int32_t k, int32_t m, int32_t live) {
  return {.sequences = sequences, .text_tokens = tokens, .chunk_size = k, .summary_tokens = m, .live_chunks = live};
}

// Two sequences of 11 tokens, chunks of 3 and the last one short: w = 0 leaves 3 of the 4 chunks live, w = 1 two.
const Case kCases[] = {
    {.name = "ksa, w 0", .layout = Layout(2, 11, 3, 1, 3), .window = AttentionWindow::Ksa(0)},
    {.name = "ksa, w 1, m 2, GQA", .layout = Layout(2, 11, 3, 2, 2), .window = AttentionWindow::Ksa(1), .heads = 4},
    {.name = "ksa, all chunks live", .layout = Layout(1, 11, 3, 2, 4), .window = AttentionWindow::Ksa(1)},
    {.name = "ksa, text queries alone",
     .layout = Layout(2, 11, 3, 2, 2),
     .window = AttentionWindow::Ksa(1),
     .heads = 4,
     .summary_queries = false},
    {.name = "ksa, no summary is live",
     .layout = Layout(1, 5, 3, 2, 0),
     .window = AttentionWindow::Ksa(4),
     .summary_queries = false,
     .summary_keys = false},
    {.name = "ksa, chunks of one token", .layout = Layout(1, 6, 1, 1, 4), .window = AttentionWindow::Ksa(1)},
    {.name = "full, summaries attend", .layout = Layout(2, 11, 3, 2, 2), .window = AttentionWindow::Full()},
    {.name = "full, text alone",
     .layout = Layout(2, 11, 3, 2, 2),
     .window = AttentionWindow::Full(),
     .heads = 4,
     .kv_heads = 1,
     .summary_queries = false,
     .summary_keys = false},
    {.name = "full, no summary rows", .layout = Layout(2, 7, 1, 0, 0), .window = AttentionWindow::Full()},
    {.name = "swa, summaries attend", .layout = Layout(1, 11, 3, 1, 2), .window = AttentionWindow::SlidingTokens(4)},
    {.name = "swa, a window of one", .layout = Layout(1, 5, 1, 0, 0), .window = AttentionWindow::SlidingTokens(1)},
    {.name = "sca, summaries attend", .layout = Layout(1, 11, 3, 1, 2), .window = AttentionWindow::SlidingChunks(1)},
    {.name = "sca, no summary rows", .layout = Layout(2, 11, 3, 0, 0), .window = AttentionWindow::SlidingChunks(0)},
};

constexpr int kHeadDim = 4;

struct RowOf {
  int32_t sequence = 0;
  RowId id;
};

RowOf Describe(const SummaryLayout& layout, int64_t row) {
  if (row < layout.text_rows()) {
    return {static_cast<int32_t>(row / layout.text_tokens), {false, static_cast<int32_t>(row % layout.text_tokens)}};
  }
  const int64_t summary = row - layout.text_rows();
  return {static_cast<int32_t>(summary / layout.live_summaries()),
          {true, static_cast<int32_t>(summary % layout.live_summaries())}};
}

// Softmax over what Visible says, one query and head at a time.
std::vector<double> Expected(const TensorView& q, const TensorView& k, const TensorView& v, const Case& c) {
  std::vector<double> out(static_cast<size_t>(q.size()), 0.0);
  const int64_t q_cols = q.cols();
  const int64_t kv_cols = k.cols();
  for (int64_t i = 0; i < q.rows(); ++i) {
    const RowOf query = Describe(c.layout, i);
    for (int64_t h = 0; h < q_cols / kHeadDim; ++h) {
      const int64_t g = h / (q_cols / kv_cols);
      const double* qi = q.As<double>() + i * q_cols + h * kHeadDim;
      double* result = out.data() + i * q_cols + h * kHeadDim;
      double total = 0.0;
      for (int64_t j = 0; j < k.rows(); ++j) {
        const RowOf key = Describe(c.layout, j);
        if (key.sequence != query.sequence || !Visible(c.layout, c.window, query.sequence, query.id, key.id)) {
          continue;
        }
        double score = 0.0;
        for (int e = 0; e < kHeadDim; ++e) {
          score += qi[e] * k.As<double>()[j * kv_cols + g * kHeadDim + e];
        }
        const double weight = std::exp(score / std::sqrt(static_cast<double>(kHeadDim)));
        total += weight;
        for (int e = 0; e < kHeadDim; ++e) {
          result[e] += weight * v.As<double>()[j * kv_cols + g * kHeadDim + e];
        }
      }
      for (int e = 0; e < kHeadDim && total > 0.0; ++e) {
        result[e] /= total;
      }
    }
  }
  return out;
}

std::vector<testing::InputSpec> Inputs(const Case& c) {
  const int64_t nq = c.summary_queries ? c.layout.rows() : c.layout.text_rows();
  const int64_t nk = c.summary_keys ? c.layout.rows() : c.layout.text_rows();
  const Placement heads = Placement::Sharded(1);
  return {Input({nq, c.heads * kHeadDim}, heads),
          Input({nk, c.kv_heads * kHeadDim}, heads),
          Input({nk, c.kv_heads * kHeadDim}, heads)};
}

AttentionSpec Spec(const Case& c) {
  return {.layout = c.layout, .window = c.window, .head_dim = kHeadDim};
}

TEST(AttentionOpTest, Values) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    OpTest test;
    const std::vector<testing::InputSpec> inputs = Inputs(c);
    const Var q = test.Constant("q", inputs[0]);
    const Var k = test.Constant("k", inputs[1]);
    const Var v = test.Constant("v", inputs[2]);
    const Var out = Attention(test.Context(), q, k, v, Spec(c));
    EXPECT_LT(RelativeDifference(ToDouble(out.value), Expected(q.value, k.value, v.value, c)), 1e-14);
    EXPECT_EQ(out.placement, q.placement);
  }
}

TEST(AttentionOpTest, Gradients) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    OpTest test;
    test.ExpectGradients(
        Inputs(c), [&](const ExecContext& cx, const Vars& x) { return Attention(cx, x[0], x[1], x[2], Spec(c)); });
  }
}

// One sequence of three documents: 3, 5 and 1 tokens in chunks of 3, padded to whole chunks, and a chunk of padding.
TEST(AttentionOpTest, PackedDocuments) {
  const std::vector<int32_t> first_chunk = {0, 1, 1, 3, 4};
  const std::vector<int32_t> tokens = {3, 3, 2, 1, 0};
  for (const AttentionWindow& window : {AttentionWindow::Ksa(0), AttentionWindow::Full()}) {
    Case c = {.name = "documents", .layout = Layout(1, 15, 3, 2, 4), .window = window};
    c.layout.document_first_chunk = first_chunk.data();
    c.layout.chunk_tokens = tokens.data();
    OpTest test;
    const std::vector<testing::InputSpec> inputs = Inputs(c);
    const Var q = test.Constant("q", inputs[0]);
    const Var k = test.Constant("k", inputs[1]);
    const Var v = test.Constant("v", inputs[2]);
    const Var out = Attention(test.Context(), q, k, v, Spec(c));
    EXPECT_LT(RelativeDifference(ToDouble(out.value), Expected(q.value, k.value, v.value, c)), 1e-14);
    for (int64_t i = 12 * out.cols(); i < 15 * out.cols(); ++i) {
      ASSERT_EQ(out.value.As<double>()[i], 0.0) << "padding";
    }
    test.ExpectGradients(
        inputs, [&](const ExecContext& cx, const Vars& x) { return Attention(cx, x[0], x[1], x[2], Spec(c)); });
  }
}

// The second pass of a recomputed block takes what the first one kept, in order, and runs no kernel.
TEST(AttentionOpTest, ReplaysWhatWasKept) {
  const Case& c = kCases[1];
  OpTest test;
  const std::vector<testing::InputSpec> inputs = Inputs(c);
  const Var q = test.Constant("q", inputs[0]);
  const Var k = test.Constant("k", inputs[1]);
  KeptTensors kept;
  ExecContext cx = test.Context();
  cx.kept = &kept;
  const Var first = Attention(cx, q, k, k, Spec(c));
  const Var second = Attention(cx, q, k, test.Constant("v", inputs[2]), Spec(c));
  ASSERT_EQ(kept.tensors.size(), 4U) << "output and log-sum-exp of each";
  kept.replay = true;
  const Var zero = {Tensor::Zeros(inputs[0].shape, DType::kF64, test.allocator()), inputs[0].placement, -1};
  EXPECT_EQ(Attention(cx, zero, k, k, Spec(c)).value.view().data, first.value.view().data);
  EXPECT_EQ(Attention(cx, zero, k, k, Spec(c)).value.view().data, second.value.view().data);
  EXPECT_THROW((void)Attention(cx, zero, k, k, Spec(c)), Error) << "more attention than the first pass";
}

TEST(AttentionOpTest, RefusesWrongPlacements) {
  const Case& c = kCases[1];
  OpTest test;
  const std::vector<testing::InputSpec> inputs = Inputs(c);
  for (const Placement& bad :
       {Placement::Partial(), Placement::Entered(), Placement::Sharded(0), Placement::Replicated()}) {
    for (size_t which = 0; which < 3; ++which) {
      std::vector<Var> x;
      for (size_t i = 0; i < 3; ++i) {
        x.push_back(test.Constant("x", Input(inputs[i].shape, i == which ? bad : Placement::Sharded(1))));
      }
      EXPECT_THROW((void)Attention(test.Context(), x[0], x[1], x[2], Spec(c)), Error) << bad.ToString();
    }
    std::vector<Var> all;
    for (size_t i = 0; i < 3; ++i) {
      all.push_back(test.Constant("x", Input(inputs[i].shape, bad)));
    }
    EXPECT_THROW((void)Attention(test.Context(), all[0], all[1], all[2], Spec(c)), Error) << bad.ToString();
  }
}

// Latents expand to keys that are wider than values.
TEST(AttentionOpTest, ValuesOfAnotherWidth) {
  for (const int64_t width : {1, 3, 6}) {
    const SummaryLayout layout = Layout(1, 11, 3, 1, 2);
    OpTest test;
    test.ExpectGradients(
        {Input({layout.rows(), 4 * kHeadDim}, Placement::Sharded(1)),
         Input({layout.rows(), 2 * kHeadDim}, Placement::Sharded(1)),
         Input({layout.rows(), 2 * width}, Placement::Sharded(1))},
        [&](const ExecContext& cx, const Vars& x) {
          const Var out = Attention(
              cx, x[0], x[1], x[2], {.layout = layout, .window = AttentionWindow::Ksa(1), .head_dim = kHeadDim});
          EXPECT_EQ(out.cols(), 4 * width);
          return out;
        });
  }
}

}  // namespace
}  // namespace ksa
