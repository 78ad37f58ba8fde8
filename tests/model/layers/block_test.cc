#include "model/layers/block.h"

#include <memory>

#include "kernels/rope/qk_norm_rope.h"
#include "model/mixers/attention/attention_mixer.h"
#include "model/ops/collectives.h"
#include "model/ops/linear.h"
#include "model/ops/norm.h"
#include "model/ops/rows.h"
#include "tests/support/jacobian.h"

namespace ksa {
namespace {

using testing::Input;
using testing::OpTest;
using testing::PartialWeight;
using testing::ToDouble;
using testing::Vars;
using testing::Weight;

constexpr int64_t kDim = 6;
constexpr int kHeadDim = 4;
constexpr int64_t kHeads = 4;
constexpr int64_t kKvHeads = 2;
constexpr int64_t kFeedForward = 5;
constexpr double kEps = 0.1;

// Two sequences of 7 tokens, chunks of 3 with 2 summaries; w = 0 leaves 2 of the 3 chunks live.
SummaryLayout Layout() {
  return {.sequences = 2, .text_tokens = 7, .chunk_size = 3, .summary_tokens = 2, .live_chunks = 2};
}

std::vector<ParameterSpec> Parameters() {
  const Placement columns = Placement::Sharded(0);
  std::vector<ParameterSpec> specs;
  for (const char* suffix : {"", "_own"}) {
    const auto name = [&](const char* part) { return std::string(part) + suffix; };
    specs.push_back(Weight(name("norm"), {kDim}));
    specs.push_back(Weight(name("q"), {kHeads * kHeadDim, kDim}, columns));
    specs.push_back(Weight(name("k"), {kKvHeads * kHeadDim, kDim}, columns));
    specs.push_back(Weight(name("v"), {kKvHeads * kHeadDim, kDim}, columns));
    specs.push_back(PartialWeight(name("q_norm"), {kHeadDim}));
    specs.push_back(PartialWeight(name("k_norm"), {kHeadDim}));
  }
  specs.push_back(Weight("out", {kDim, kHeads * kHeadDim}, Placement::Sharded(1)));
  return specs;
}

// Which parameters the summary rows have for themselves.
struct Own {
  const char* name;
  bool norm = false;
  bool qkv = false;
  bool qk_norm = false;
  bool base_qk_norm = true;
};

const Own kOwn[] = {{.name = "nothing"},
                    {.name = "nothing, no q/k norm", .base_qk_norm = false},
                    {.name = "norm", .norm = true},
                    {.name = "qkv", .qkv = true},
                    {.name = "qkv, no q/k norm", .qkv = true, .base_qk_norm = false},
                    {.name = "all", .norm = true, .qkv = true, .qk_norm = true}};

class AttentionBlockTest : public ::testing::Test {
 protected:
  AttentionBlockTest()
      : test_(Parameters()), table_(Tensor::Empty({7, kHeadDim / 2, 2}, DType::kF64, test_.allocator())) {
    FillRopeTable(table_, 100.0, {});
  }

  WeightPair Pair(const std::string& name, bool has_own) {
    return {&test_.Get(name), has_own ? &test_.Get(name + "_own") : nullptr};
  }

  AttentionWeights Weights(const Own& own) {
    const auto pair = [&](const std::string& name, bool has_own) { return Pair(name, has_own); };
    AttentionWeights weights;
    weights.q = pair("q", own.qkv);
    weights.k = pair("k", own.qkv);
    weights.v = pair("v", own.qkv);
    if (own.base_qk_norm) {
      weights.q_norm = pair("q_norm", own.qk_norm);
      weights.k_norm = pair("k_norm", own.qk_norm);
    }
    weights.out = &test_.Get("out");
    return weights;
  }

  static MixerCall Call(SummaryRole role, double mix) { return {.layout = Layout(), .role = role, .mix = mix}; }

  // The mixer lives until the next one is made.
  Var Block(const ExecContext& cx, const Var& x, const Own& own, const MixerCall& call) {
    const AttentionWindow window =
        call.role == SummaryRole::kBypass ? AttentionWindow::Full() : AttentionWindow::Ksa(0);
    mixer_ = std::make_unique<BoundAttention>(AttentionSetup{.weights = Weights(own),
                                                             .window = window,
                                                             .options = {},
                                                             .rope_table = table_,
                                                             .head_dim = kHeadDim,
                                                             .eps = kEps});
    return Sum(cx, MixerBlock(cx, {x}, Pair("norm", own.norm), *mixer_, call, kEps));
  }

  Var Run(const Var& x, const Own& own, const MixerCall& call) { return Block(test_.Context(), x, own, call); }

  void ExpectGradients(SummaryRole role, int64_t rows) {
    for (const Own& own : kOwn) {
      for (const double mix : {1.0, 0.5, 0.0}) {
        if (mix < 1.0 && !own.qkv) {
          continue;  // annealing needs own projections
        }
        SCOPED_TRACE(::testing::Message() << "own: " << own.name << ", mix " << mix);
        test_.ExpectGradients({Input({rows, kDim})}, [&](const ExecContext& cx, const Vars& x) {
          return Block(cx, x[0], own, Call(role, mix));
        });
      }
    }
  }

  OpTest test_;
  Tensor table_;
  std::unique_ptr<BoundMixer> mixer_;
};

TEST_F(AttentionBlockTest, GradientsWhenSummariesAttend) {
  ExpectGradients(SummaryRole::kAttend, Layout().rows());
}

TEST_F(AttentionBlockTest, GradientsWhenSummariesAreKeysOnly) {
  ExpectGradients(SummaryRole::kKeysOnly, Layout().rows());
}

TEST_F(AttentionBlockTest, GradientsWhenSummariesBypass) {
  ExpectGradients(SummaryRole::kBypass, Layout().rows());
}

TEST_F(AttentionBlockTest, GradientsWithoutSummaryRows) {
  ExpectGradients(SummaryRole::kBypass, Layout().text_rows());
}

TEST_F(AttentionBlockTest, KeysOnlyIsTheTextOfAttend) {
  const Var x = test_.Constant("x", Input({Layout().rows(), kDim}));
  for (const double mix : {1.0, 0.5, 0.0}) {
    const Var all = Run(x, kOwn[5], Call(SummaryRole::kAttend, mix));
    const Var text = Run(x, kOwn[5], Call(SummaryRole::kKeysOnly, mix));
    EXPECT_EQ(all.rows(), Layout().rows());
    EXPECT_EQ(text.rows(), Layout().text_rows());
    EXPECT_LT(testing::RelativeDifference(ToDouble(text.value), ToDouble(all.value.Rows(0, text.rows()))), 1e-14);
  }
}

TEST_F(AttentionBlockTest, BypassLeavesSummariesUntouched) {
  const Var x = test_.Constant("x", Input({Layout().rows(), kDim}));
  const Var y = Run(x, kOwn[5], Call(SummaryRole::kBypass, 1.0));
  const int64_t text = Layout().text_rows();
  const int64_t summaries = Layout().summary_rows();
  testing::ExpectSameBits(y.value.Rows(text, summaries), x.value.Rows(text, summaries), "summary rows");
  EXPECT_NE(ToDouble(y.value.Rows(0, text)), ToDouble(x.value.Rows(0, text)));
}

TEST_F(AttentionBlockTest, TheMixGoesFromOwnToBase) {
  const Var x = test_.Constant("x", Input({Layout().rows(), kDim}));
  const auto run = [&](const Own& own, double mix) {
    return ToDouble(Run(x, own, Call(SummaryRole::kAttend, mix)).value);
  };
  EXPECT_EQ(run(kOwn[3], 0.0), run(kOwn[0], 1.0)) << "at 0 the own projections are dead";
  EXPECT_LT(testing::RelativeDifference(run(kOwn[3], 1.0 - 1e-14), run(kOwn[3], 1.0)), 1e-12) << "continuous at 1";
  EXPECT_LT(testing::RelativeDifference(run(kOwn[3], 1e-14), run(kOwn[3], 0.0)), 1e-12) << "continuous at 0";
  EXPECT_GT(testing::RelativeDifference(run(kOwn[3], 1.0), run(kOwn[3], 0.0)), 0.01);
}

class MlpBlockTest : public ::testing::Test {
 protected:
  MlpBlockTest()
      : test_({Weight("norm", {kDim}),
               Weight("gate", {kFeedForward, kDim}, Placement::Sharded(0)),
               Weight("up", {kFeedForward, kDim}, Placement::Sharded(0)),
               Weight("down", {kDim, kFeedForward}, Placement::Sharded(1))}) {}

  MlpWeights Weights() { return {&test_.Get("norm"), &test_.Get("gate"), &test_.Get("up"), &test_.Get("down")}; }

  OpTest test_;
};

TEST_F(MlpBlockTest, Gradients) {
  for (const RowCounts& active : {RowCounts{3}, RowCounts{3, 2}}) {
    test_.ExpectGradients({Input({5, kDim})}, [&](const ExecContext& cx, const Vars& x) {
      return Sum(cx, MlpBlock(cx, {x[0]}, Weights(), active, 0.1));
    });
  }
}

// What is still to be added to the residual stream, in all rows and in some.
TEST_F(MlpBlockTest, GradientsOfAPendingSum) {
  for (const PartRecompute recompute : {PartRecompute::kNone, PartRecompute::kPart}) {
    for (const int64_t pending : {3, 5}) {
      test_.ExpectGradients({Input({5, kDim}), Input({pending, kDim})}, [&](const ExecContext& cx, const Vars& x) {
        return Sum(cx, MlpBlock(cx, {x[0], x[1]}, Weights(), {3, 2}, 0.1, recompute));
      });
    }
  }
}

TEST_F(MlpBlockTest, TheFusedSumIsTheSumInBits) {
  const Var x = test_.Constant("x", Input({5, kDim}));
  const Var delta = test_.Constant("delta", Input({5, kDim}));
  const ExecContext cx = test_.Context();
  const NormedSum fused = AddRmsNorm(cx, x, delta, 2, *Weights().norm, nullptr, 0.1);
  const Var sum = AddRows(cx, x, delta);
  testing::ExpectSameBits(fused.sum.value, sum.value, "the sum");
  testing::ExpectSameBits(
      fused.normed.value, RmsNorm(cx, sum, 2, *Weights().norm, nullptr, 0.1).value, "the norm of the sum");
}

TEST_F(MlpBlockTest, RowsThatAreNotActivePass) {
  const Var x = test_.Constant("x", Input({5, kDim}));
  const ExecContext cx = test_.Context();
  const Var some = Sum(cx, MlpBlock(cx, {x}, Weights(), {3}, 0.1));
  const Var all = Sum(cx, MlpBlock(cx, {x}, Weights(), {3, 2}, 0.1));
  testing::ExpectSameBits(some.value.Rows(3, 2), x.value.Rows(3, 2), "rows that skip the block");
  EXPECT_LT(testing::RelativeDifference(ToDouble(some.value.Rows(0, 3)), ToDouble(all.value.Rows(0, 3))), 1e-14);
}

// The block written out again, with one collective left out at a time: one process is enough to see it.
TEST_F(MlpBlockTest, AForgottenCollectiveIsRefused) {
  const MlpWeights w = Weights();
  const Var x = test_.Constant("x", Input({5, kDim}));
  const auto run = [&](bool enter, bool reduce) {
    const ExecContext cx = test_.Context();
    const Var normed = RmsNorm(cx, x, 5, *w.norm, nullptr, 0.1);
    const Var hidden = Linear(cx, enter ? TensorEnter(cx, normed, {5}) : normed, *w.gate);
    const Var down = Linear(cx, hidden, *w.down);
    return AddRows(cx, x, reduce ? TensorReduce(cx, down, {5}) : down);
  };
  EXPECT_NO_THROW((void)run(true, true));
  EXPECT_THROW((void)run(false, true), Error);
  EXPECT_THROW((void)run(true, false), Error);
  // A sum that was reduced once is not reduced again, and what has entered does not enter again.
  const Var partial = test_.Constant("partial", Input({5, kDim}, Placement::Partial()));
  const Var reduced = TensorReduce(test_.Context(), partial, {5});
  EXPECT_THROW((void)TensorReduce(test_.Context(), reduced, {5}), Error);
  const Var entered = TensorEnter(test_.Context(), reduced, {5});
  EXPECT_THROW((void)TensorEnter(test_.Context(), entered, {5}), Error);
  EXPECT_THROW((void)RmsNorm(test_.Context(), partial, 5, *w.norm, nullptr, 0.1), Error);
  EXPECT_THROW((void)AddRows(test_.Context(), x, entered), Error) << "its gradient would be counted once a rank";
}

}  // namespace
}  // namespace ksa
