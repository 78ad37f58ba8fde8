// Both ends of the model: the embedding, and the head with its cross-entropy.
#include <cmath>

#include "model/ops/embedding.h"
#include "model/ops/loss.h"
#include "model/ops/rows.h"
#include "tests/support/jacobian.h"

namespace ksa {
namespace {

using testing::Input;
using testing::OpTest;
using testing::RelativeDifference;
using testing::ToDouble;
using testing::Vars;
using testing::Weight;

constexpr int32_t kVocabulary = 5;
constexpr int64_t kCols = 3;
constexpr int32_t kSummaries = 2;

// Two sequences of 5 tokens, 2 of their 3 chunks live.
SummaryLayout Layout() {
  return {.sequences = 2, .text_tokens = 5, .chunk_size = 2, .summary_tokens = kSummaries, .live_chunks = 2};
}

class EmbeddingTest : public ::testing::Test {
 protected:
  explicit EmbeddingTest(const Placement& placement = Placement::Sharded(0))
      : test_({Weight("table", {kVocabulary + kSummaries, kCols}, placement), Weight("own", {kSummaries, kCols})}),
        ids_(testing::Integers("ids", {10}, 0, kVocabulary, test_.allocator())) {}

  EmbeddingSpec Spec(bool own) {
    return {.layout = Layout(),
            .table = &test_.Get("table"),
            .summary_table = own ? &test_.Get("own") : nullptr,
            .vocab_size = kVocabulary};
  }

  OpTest test_;
  Tensor ids_;
};

TEST_F(EmbeddingTest, Values) {
  for (const bool own : {false, true}) {
    std::vector<double> expected;
    const auto append = [&](const Parameter& table, int64_t row) {
      const double* x = table.value.As<double>() + row * kCols;
      expected.insert(expected.end(), x, x + kCols);
    };
    for (int64_t i = 0; i < 10; ++i) {
      append(test_.Get("table"), ids_.As<int32_t>()[i]);
    }
    for (int64_t i = 0; i < 8; ++i) {
      const int64_t a = i % kSummaries;
      append(test_.Get(own ? "own" : "table"), own ? a : kVocabulary + a);
    }
    const Var y = Embedding(test_.Context(), ids_, Spec(own));
    EXPECT_EQ(ToDouble(y.value), expected);
    EXPECT_EQ(y.placement, Placements::Rows(Placement::Partial())) << "a table by vocabulary gives parts of a sum";
  }
}

TEST_F(EmbeddingTest, Gradients) {
  for (const bool own : {false, true}) {
    test_.ExpectGradients({}, [&](const ExecContext& cx, const Vars&) { return Embedding(cx, ids_, Spec(own)); });
  }
}

TEST_F(EmbeddingTest, WithoutSummaries) {
  EmbeddingSpec spec = Spec(false);
  spec.layout.summary_tokens = 0;
  spec.layout.live_chunks = 0;
  EXPECT_EQ(Embedding(test_.Context(), ids_, spec).rows(), 10);
  test_.ExpectGradients({}, [&](const ExecContext& cx, const Vars&) { return Embedding(cx, ids_, spec); });
}

TEST(EmbeddingPlacementTest, AReplicatedTableGivesReplicatedRows) {
  OpTest test({Weight("table", {kVocabulary, kCols}), Weight("own", {kSummaries, kCols})});
  const Tensor ids = testing::Integers("ids", {10}, 0, kVocabulary, test.allocator());
  const Var y = Embedding(
      test.Context(),
      ids,
      {.layout = Layout(), .table = &test.Get("table"), .summary_table = &test.Get("own"), .vocab_size = kVocabulary});
  EXPECT_EQ(y.placement, Placements::Rows());
}

class LossTest : public ::testing::Test {
 protected:
  static constexpr int64_t kRows = 6;

  LossTest()
      : test_({Weight("head", {kVocabulary, kCols}, Placement::Sharded(0))}),
        targets_(testing::Integers("targets", {kRows}, 0, kVocabulary, test_.allocator())) {
    targets_.As<int32_t>()[2] = -100;
  }

  OpTest test_;
  Tensor targets_;
};

TEST_F(LossTest, Values) {
  const Var x = test_.Constant("x", Input({kRows, kCols}, Placement::Entered()));
  const double* head = test_.Get("head").value.As<double>();
  std::vector<double> rows;
  double sum = 0.0;
  for (int64_t r = 0; r < kRows; ++r) {
    double total = 0.0;
    double wanted = 0.0;
    for (int64_t v = 0; v < kVocabulary; ++v) {
      double logit = 0.0;
      for (int64_t i = 0; i < kCols; ++i) {
        logit += x.value.As<double>()[r * kCols + i] * head[v * kCols + i];
      }
      total += std::exp(logit);
      wanted = v == targets_.As<int32_t>()[r] ? logit : wanted;
    }
    rows.push_back(targets_.As<int32_t>()[r] < 0 ? 0.0 : std::log(total) - wanted);
    sum += rows.back();
  }
  const CrossEntropyResult result = LinearCrossEntropyLoss(test_.Context(), x, test_.Get("head"), targets_, 0.5);
  EXPECT_LT(RelativeDifference(ToDouble(result.row_loss), rows), 1e-14);
  EXPECT_NEAR(result.loss_sum.value.As<double>()[0], sum, 1e-14 * sum);
  EXPECT_EQ(result.loss_sum.placement[MeshAxis::kData], Placement::Partial());
  EXPECT_EQ(result.loss_sum.placement[MeshAxis::kContext], Placement::Partial());
  EXPECT_EQ(result.loss_sum.placement[MeshAxis::kTensor], Placement::Replicated());
}

TEST_F(LossTest, Gradients) {
  for (const double scale : {1.0, 0.125}) {
    test_.ExpectLossGradients(
        {Input({kRows, kCols}, Placement::Entered())}, scale, [&](const ExecContext& cx, const Vars& x) {
          return LinearCrossEntropyLoss(cx, x[0], test_.Get("head"), targets_, scale).loss_sum;
        });
  }
}

// Rows that are left out have no part in it: the same loss, and gradients of the others.
TEST_F(LossTest, OfSelectedRows) {
  const auto numbers = [&](const std::vector<int32_t>& rows) {
    Tensor tensor = test_.Context().Empty({static_cast<int64_t>(rows.size())}, DType::kI32);
    std::copy(rows.begin(), rows.end(), tensor.As<int32_t>());
    return tensor;
  };
  std::vector<int32_t> rows;
  std::vector<int32_t> targets;
  for (int32_t r = 0; r < kRows; ++r) {
    if (targets_.As<int32_t>()[r] >= 0) {
      rows.push_back(30 + r);
      targets.push_back(targets_.As<int32_t>()[r]);
    }
  }
  ASSERT_LT(rows.size(), static_cast<size_t>(kRows));
  const auto loss = [&](const ExecContext& cx, const Var& x, const std::vector<int32_t>& of) {
    return LinearCrossEntropyLoss(
        cx, SelectRows(cx, x, numbers(of), 30), test_.Get("head"), of.empty() ? numbers({}) : numbers(targets), 0.5);
  };
  const Var x = test_.Constant("x", Input({kRows, kCols}, Placement::Entered()));
  const CrossEntropyResult some = loss(test_.Context(), x, rows);
  const CrossEntropyResult all = LinearCrossEntropyLoss(test_.Context(), x, test_.Get("head"), targets_, 0.5);
  EXPECT_EQ(some.loss_sum.value.As<double>()[0], all.loss_sum.value.As<double>()[0]);
  EXPECT_EQ(some.row_loss.size(), static_cast<int64_t>(rows.size()));
  for (const std::vector<int32_t>& of : {rows, std::vector<int32_t>()}) {
    test_.ExpectLossGradients({Input({kRows, kCols}, Placement::Entered())},
                              0.5,
                              [&](const ExecContext& cx, const Vars& in) { return loss(cx, in[0], of).loss_sum; });
  }
}

// A tied table: the head's gradient and the embedding's land in the same place.
TEST_F(LossTest, GradientsOfATiedTable) {
  const Tensor ids = testing::Integers("ids", {kRows}, 0, kVocabulary, test_.allocator());
  const EmbeddingSpec spec = {.layout = {.text_tokens = kRows},
                              .table = &test_.Get("head"),
                              .summary_table = nullptr,
                              .vocab_size = kVocabulary};
  test_.ExpectLossGradients({}, 1.0, [&](const ExecContext& cx, const Vars&) {
    Var x = Embedding(cx, ids, spec);
    x.placement = Placements::Rows(Placement::Entered());
    return LinearCrossEntropyLoss(cx, x, test_.Get("head"), targets_, 1.0).loss_sum;
  });
}

TEST_F(LossTest, RefusesWrongPlacements) {
  for (const Placement& bad :
       {Placement::Partial(), Placement::Replicated(), Placement::Sharded(0), Placement::Sharded(1)}) {
    const Var x = test_.Constant("x", Input({kRows, kCols}, bad));
    EXPECT_THROW((void)LinearCrossEntropyLoss(test_.Context(), x, test_.Get("head"), targets_, 1.0), Error)
        << bad.ToString();
  }
  OpTest replicated({Weight("head", {kVocabulary, kCols})});
  const Var entered = replicated.Constant("x", Input({kRows, kCols}, Placement::Entered()));
  EXPECT_THROW((void)LinearCrossEntropyLoss(replicated.Context(), entered, replicated.Get("head"), targets_, 1.0),
               Error);
}

TEST_F(LossTest, RefusesATargetBeyondTheVocabulary) {
  targets_.As<int32_t>()[1] = kVocabulary;
  const Var x = test_.Constant("x", Input({kRows, kCols}, Placement::Entered()));
  EXPECT_THROW((void)LinearCrossEntropyLoss(test_.Context(), x, test_.Get("head"), targets_, 1.0), Error);
}

}  // namespace
}  // namespace ksa
