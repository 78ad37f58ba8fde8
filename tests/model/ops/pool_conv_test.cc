// The convolution along the text, the pooling of chunks, and stacks of rows.
#include "model/ops/chunk_pool.h"
#include "model/ops/rows.h"
#include "model/ops/short_conv.h"
#include "tests/support/jacobian.h"

namespace ksa {
namespace {

using testing::Input;
using testing::OpTest;
using testing::PartialWeight;
using testing::ToDouble;
using testing::Vars;
using testing::Weight;

const Placement kColumns = Placement::Sharded(1);

SummaryLayout Layout() {
  return {.sequences = 2, .text_tokens = 7, .chunk_size = 3, .summary_tokens = 1, .live_chunks = 2};
}

TEST(ShortConvOp, Gradients) {
  for (const int64_t rows : {int64_t{14}, int64_t{18}}) {  // text, and with summaries
    OpTest test({Weight("w", {5, 1, 4}, Placement::Sharded(0))});
    test.ExpectGradients({Input({rows, 5}, kColumns)}, [&](const ExecContext& cx, const Vars& x) {
      return ShortConv(cx, x[0], {.layout = Layout(), .whole = Layout(), .weight = &test.Get("w")});
    });
  }
}

TEST(ShortConvOp, GradientsOfRowsThatAllTensorRanksHave) {
  OpTest test({PartialWeight("w", {5, 1, 3})});
  test.ExpectGradients({Input({14, 5}, Placement::Entered())}, [&](const ExecContext& cx, const Vars& x) {
    return ShortConv(cx, x[0], {.layout = Layout(), .whole = Layout(), .weight = &test.Get("w")});
  });
}

TEST(ChunkPoolOp, Gradients) {
  OpTest test({Weight("bias", {3, 5}, kColumns)});
  const auto pool = [&](const ExecContext& cx, const Var& gate, const Var& k, const Var& v) {
    return ChunkPool(cx, gate, {k, v}, {.layout = Layout(), .bias = &test.Get("bias")});
  };
  test.ExpectGradients({Input({13, 5}, kColumns), Input({14, 5}, kColumns), Input({13, 5}, kColumns)},
                       [&](const ExecContext& cx, const Vars& x) {
                         const auto entries = pool(cx, x[0], x[1], x[2]);
                         return StackRows(cx, entries[0], entries[1]);
                       });
  test.ExpectGradients({Input({14, 5}, kColumns), Input({14, 5}, kColumns)},
                       [&](const ExecContext& cx, const Vars& x) { return pool(cx, x[0], x[1], {})[0]; });
}

TEST(StackRowsOp, ValuesAndGradients) {
  OpTest test;
  const Var a = test.Constant("a", Input({2, 3}));
  const Var b = test.Constant("b", Input({4, 3}));
  std::vector<double> expected = ToDouble(a.value);
  const std::vector<double> behind = ToDouble(b.value);
  expected.insert(expected.end(), behind.begin(), behind.end());
  EXPECT_EQ(ToDouble(StackRows(test.Context(), a, b).value), expected);
  test.ExpectGradients({Input({2, 3}), Input({4, 3})},
                       [](const ExecContext& cx, const Vars& x) { return StackRows(cx, x[0], x[1]); });
}

}  // namespace
}  // namespace ksa
