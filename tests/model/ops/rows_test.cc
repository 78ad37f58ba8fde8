// Slices, residual sums, the annealing mix and SwiGLU.
#include "model/ops/rows.h"

#include <cmath>

#include "model/ops/linear.h"
#include "model/ops/swiglu.h"
#include "tests/support/jacobian.h"

namespace ksa {
namespace {

using testing::Input;
using testing::OpTest;
using testing::RelativeDifference;
using testing::ToDouble;
using testing::Vars;
using testing::Weight;

std::vector<double> Slice(const std::vector<double>& x, int64_t begin, int64_t end) {
  return {x.begin() + begin, x.begin() + end};
}

TEST(RowsTest, SharesMemoryAndPassesGradientsBack) {
  OpTest test;
  const Var x = test.Constant("x", Input({5, 3}));
  const Var slice = Rows(test.Context(), x, 1, 3);
  EXPECT_EQ(slice.value.view().data, x.value.As<double>() + 3);
  EXPECT_EQ(ToDouble(slice.value), Slice(ToDouble(x.value), 3, 12));
  const std::pair<int64_t, int64_t> slices[] = {{0, 2}, {1, 3}, {3, 2}};
  for (const auto& [first, count] : slices) {
    test.ExpectGradients({Input({5, 3})},
                         [&](const ExecContext& cx, const Vars& in) { return Rows(cx, in[0], first, count); });
  }
}

TEST(RowsTest, AllRowsAreTheValueItself) {
  OpTest test;
  Tape tape;
  const ExecContext cx = test.Context(&tape);
  const Var x = Leaf(cx, test.Constant("x", Input({5, 3})).value, Placements::Rows());
  EXPECT_EQ(Rows(cx, x, 0, 5).slot, x.slot);
  EXPECT_EQ(tape.size(), 0U);
}

TEST(RowsTest, SlicesOfOneValueThatOverlap) {
  OpTest test;
  test.ExpectGradients({Input({5, 3})}, [](const ExecContext& cx, const Vars& x) {
    const Var ends = AddRows(cx, Rows(cx, x[0], 0, 3), Rows(cx, x[0], 2, 3));
    return AddRows(cx, x[0], ends);
  });
}

TEST(AddRowsTest, Values) {
  OpTest test;
  const Var x = test.Constant("x", Input({5, 3}));
  for (const int64_t rows : {int64_t{0}, int64_t{2}, int64_t{5}}) {
    const Var delta = test.Constant("delta", Input({rows, 3}));
    std::vector<double> expected = ToDouble(x.value);
    for (int64_t i = 0; i < rows * 3; ++i) {
      expected[static_cast<size_t>(i)] += delta.value.As<double>()[i];
    }
    EXPECT_EQ(ToDouble(AddRows(test.Context(), x, delta).value), expected);
  }
}

TEST(AddRowsTest, Gradients) {
  for (const int64_t rows : {int64_t{1}, int64_t{3}, int64_t{5}}) {
    OpTest test;
    test.ExpectGradients({Input({5, 3}), Input({rows, 3})},
                         [](const ExecContext& cx, const Vars& x) { return AddRows(cx, x[0], x[1]); });
  }
}

// A residual stream: every sum's gradient is adopted by two slots at once, and both are added to afterwards.
TEST(AddRowsTest, SharedGradientsOfAResidualStream) {
  OpTest test({Weight("w", {3, 3})});
  test.ExpectGradients({Input({4, 3}), Input({2, 3})}, [&](const ExecContext& cx, const Vars& x) {
    Var stream = x[0];
    for (int layer = 0; layer < 3; ++layer) {
      const Var branch = Linear(cx, stream, test.Get("w"));
      stream = AddRows(cx, stream, AddRows(cx, branch, x[1]));
    }
    return AddRows(cx, stream, stream);
  });
}

TEST(AddRowsTest, RefusesWrongPlacements) {
  OpTest test;
  const auto run = [&](const Placement& x, const Placement& delta) {
    return AddRows(test.Context(), test.Constant("x", Input({4, 3}, x)), test.Constant("d", Input({4, 3}, delta)));
  };
  EXPECT_EQ(run(Placement::Replicated(), Placement::Replicated()).placement, Placements::Rows());
  EXPECT_THROW((void)run(Placement::Replicated(), Placement::Partial()), Error);
  EXPECT_THROW((void)run(Placement::Partial(), Placement::Partial()), Error);
  EXPECT_THROW((void)run(Placement::Partial(), Placement::Replicated()), Error);
  EXPECT_THROW((void)run(Placement::Replicated(), Placement::Sharded(1)), Error);
}

TEST(MixRowsTest, Values) {
  OpTest test;
  const Var own = test.Constant("own", Input({5, 2}));
  const Var base = test.Constant("base", Input({3, 2}));
  std::vector<double> expected = ToDouble(own.value);
  for (size_t i = 4; i < 10; ++i) {
    expected[i] = 0.7 * expected[i] + 0.3 * base.value.As<double>()[i - 4];
  }
  const Var y = MixRows(test.Context(), own, base, 2, 0.7);
  EXPECT_LT(RelativeDifference(ToDouble(y.value), expected), 1e-15);
  EXPECT_EQ(Slice(ToDouble(y.value), 0, 4), Slice(ToDouble(own.value), 0, 4)) << "rows that are not mixed";
}

TEST(MixRowsTest, Gradients) {
  for (const int64_t first : {int64_t{0}, int64_t{2}}) {
    OpTest test;
    test.ExpectGradients({Input({5, 2}), Input({5 - first, 2})},
                         [&](const ExecContext& cx, const Vars& x) { return MixRows(cx, x[0], x[1], first, 0.7); });
    // The same gradient arrives at a second reader, which must not see it scaled.
    test.ExpectGradients(
        {Input({5, 2}), Input({5 - first, 2}), Input({5, 2})},
        [&](const ExecContext& cx, const Vars& x) { return AddRows(cx, x[2], MixRows(cx, x[0], x[1], first, 0.7)); });
  }
}

TEST(MixRowsTest, RefusesWrongPlacementsAndRows) {
  OpTest test;
  const auto run = [&](const Placement& own, const Placement& base, int64_t rows) {
    return MixRows(
        test.Context(), test.Constant("o", Input({5, 2}, own)), test.Constant("b", Input({rows, 2}, base)), 2, 0.5);
  };
  EXPECT_NO_THROW((void)run(Placement::Sharded(1), Placement::Sharded(1), 3));
  EXPECT_THROW((void)run(Placement::Sharded(1), Placement::Sharded(1), 2), Error);
  EXPECT_THROW((void)run(Placement::Sharded(1), Placement::Replicated(), 3), Error);
  EXPECT_THROW((void)run(Placement::Partial(), Placement::Partial(), 3), Error);
}

TEST(SwigluTest, Values) {
  OpTest test;
  const Var gate = test.Constant("gate", Input({3, 4}));
  const Var up = test.Constant("up", Input({3, 4}));
  std::vector<double> expected;
  for (int64_t i = 0; i < 12; ++i) {
    const double g = gate.value.As<double>()[i];
    expected.push_back(g / (1.0 + std::exp(-g)) * up.value.As<double>()[i]);
  }
  EXPECT_LT(RelativeDifference(ToDouble(Swiglu(test.Context(), gate, up).value), expected), 1e-15);
}

TEST(SwigluTest, Gradients) {
  OpTest test;
  test.ExpectGradients({Input({3, 4}, Placement::Sharded(1)), Input({3, 4}, Placement::Sharded(1))},
                       [](const ExecContext& cx, const Vars& x) { return Swiglu(cx, x[0], x[1]); });
}

TEST(SwigluTest, RefusesWrongPlacements) {
  OpTest test;
  const auto run = [&](const Placement& gate, const Placement& up) {
    return Swiglu(test.Context(), test.Constant("g", Input({3, 4}, gate)), test.Constant("u", Input({3, 4}, up)));
  };
  EXPECT_EQ(run(Placement::Sharded(1), Placement::Sharded(1)).placement, Placements::Rows(Placement::Sharded(1)));
  EXPECT_THROW((void)run(Placement::Sharded(1), Placement::Replicated()), Error);
  EXPECT_THROW((void)run(Placement::Partial(), Placement::Partial()), Error);
}

}  // namespace
}  // namespace ksa
