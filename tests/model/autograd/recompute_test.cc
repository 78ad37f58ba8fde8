#include "model/autograd/recompute.h"

#include "kernels/core/host_allocator.h"
#include "model/ops/attention.h"
#include "model/ops/linear.h"
#include "model/ops/norm.h"
#include "model/ops/rows.h"
#include "tests/support/jacobian.h"

namespace ksa {
namespace {

using testing::Input;
using testing::OpTest;
using testing::Vars;
using testing::Weight;

constexpr int64_t kRows = 6;
constexpr int64_t kCols = 4;

class RecomputeTest : public ::testing::Test {
 protected:
  RecomputeTest() : test_({Weight("norm", {kCols}), Weight("w", {kCols, kCols}, Placement::Sharded(0))}) {}

  // A residual block with attention in it. Counts how often it runs.
  Var Block(const ExecContext& cx, const Var& x) {
    ++runs_;
    replayed_.push_back(cx.kept != nullptr && cx.kept->replay);
    Var normed = RmsNorm(cx, x, kRows, test_.Get("norm"), nullptr, 1e-3);
    normed.placement = Placements::Rows(Placement::Entered());
    const Var h = Linear(cx, normed, test_.Get("w"));
    const AttentionSpec spec = {
        .layout = {.text_tokens = kRows}, .window = AttentionWindow::Full(), .head_dim = static_cast<int>(kCols)};
    Var out = Attention(cx, h, h, h, spec);
    out.placement = x.placement;
    return AddRows(cx, x, out);
  }

  struct Result {
    Tensor y;
    Tensor dx;
    std::vector<double> parameters;
    size_t nodes = 0;
    int64_t held = 0;  // bytes that live between forward and backward
  };

  Result Run(bool recompute) {
    HostAllocator pool;
    Tape tape;
    const ExecContext cx = {.tape = &tape, .stream = {}, .allocator = &pool};
    test_.store().BeginUpdate();
    const auto block = [this](const ExecContext& inner, const Var& in) { return Block(inner, in); };
    Var x = Leaf(cx, test_.Constant("x", Input({kRows, kCols})).value, Placements::Rows());
    const int input = x.slot;
    for (int layer = 0; layer < 2; ++layer) {
      x = recompute ? Recomputed(cx, x, block) : block(cx, x);
    }
    Result result;
    result.y = testing::Clone(x.value, test_.allocator());
    result.nodes = tape.size();
    result.held = pool.use().current;
    tape.Backward(cx, x, testing::Normal("dy", {kRows, kCols}, DType::kF64, test_.allocator()));
    result.dx = testing::Clone(tape.TakeGrad(input), test_.allocator());
    for (const Parameter& parameter : test_.store().parameters()) {
      const std::vector<double> grad = testing::ToDouble(parameter.grad);
      result.parameters.insert(result.parameters.end(), grad.begin(), grad.end());
    }
    tape.Clear();
    x = Var{};
    EXPECT_EQ(pool.use().current, 0) << "memory that nobody gave back";
    return result;
  }

  OpTest test_;
  int runs_ = 0;
  std::vector<bool> replayed_;  // per run: whether attention came from what was kept
};

TEST_F(RecomputeTest, EqualsAPlainCallInBits) {
  const Result plain = Run(false);
  EXPECT_EQ(runs_, 2);
  const Result again = Run(true);
  EXPECT_EQ(runs_, 6) << "two blocks, each forward and once more in backward";
  EXPECT_EQ(replayed_, std::vector<bool>({false, false, false, false, true, true}));
  testing::ExpectSameBits(again.y, plain.y, "the output");
  testing::ExpectSameBits(again.dx, plain.dx, "the input's gradient");
  EXPECT_EQ(again.parameters, plain.parameters);
}

TEST_F(RecomputeTest, KeepsTheInputAndAttentionAlone) {
  const Result plain = Run(false);
  const Result again = Run(true);
  EXPECT_EQ(again.nodes, 2U);
  // Every tensor here takes one block of the pool: per layer x, attention's output and its log-sum-exp; and the result.
  EXPECT_EQ(again.held, (2 * 3 + 1 - 1) * 512) << "the first x is the test's own";
  EXPECT_GT(plain.held, again.held);
}

TEST_F(RecomputeTest, Gradients) {
  test_.ExpectGradients({Input({kRows, kCols})}, [&](const ExecContext& cx, const Vars& x) {
    return Recomputed(cx, x[0], [this](const ExecContext& inner, const Var& in) { return Block(inner, in); });
  });
}

TEST_F(RecomputeTest, NothingRunsAgainWhenNoGradientArrives) {
  Tape tape;
  const ExecContext cx = test_.Context(&tape);
  const Var x = Leaf(cx, test_.Constant("x", Input({kRows, kCols})).value, Placements::Rows());
  const Var y = Recomputed(cx, x, [this](const ExecContext& inner, const Var& in) { return Block(inner, in); });
  tape.Backward(cx, y, Tensor());
  EXPECT_EQ(runs_, 1);
  EXPECT_TRUE(tape.TakeGrad(x.slot).empty());
}

}  // namespace
}  // namespace ksa
