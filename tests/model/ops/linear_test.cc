#include "model/ops/linear.h"

#include "tests/support/jacobian.h"

namespace ksa {
namespace {

using testing::Input;
using testing::OpTest;
using testing::Vars;
using testing::Weight;

constexpr int64_t kRows = 7;
constexpr int64_t kIn = 5;
constexpr int64_t kOut = 3;

// How a weight lies, and what it takes and gives.
struct Parallelism {
  Placement weight;
  Placement input;
  Placement output;
};

const Parallelism kParallelisms[] = {
    {Placement::Sharded(0), Placement::Entered(), Placement::Sharded(1)},
    {Placement::Sharded(1), Placement::Sharded(1), Placement::Partial()},
    {Placement::Replicated(), Placement::Replicated(), Placement::Replicated()},
};

// y = x W^T by the definition, with rows from `split` on multiplied by `own`.
std::vector<double> Expected(const TensorView& x, const TensorView& base, const TensorView& own, int64_t split) {
  std::vector<double> y;
  for (int64_t r = 0; r < x.rows(); ++r) {
    const double* w = (r < split ? base : own).As<double>();
    for (int64_t o = 0; o < kOut; ++o) {
      double sum = 0.0;
      for (int64_t i = 0; i < kIn; ++i) {
        sum += x.As<double>()[r * kIn + i] * w[o * kIn + i];
      }
      y.push_back(sum);
    }
  }
  return y;
}

TEST(LinearTest, ValuesAndPlacements) {
  for (const Parallelism& p : kParallelisms) {
    OpTest test({Weight("base", {kOut, kIn}, p.weight), Weight("own", {kOut, kIn}, p.weight)});
    const Var x = test.Constant("x", Input({kRows, kIn}, p.input));
    Parameter& base = test.Get("base");
    Parameter& own = test.Get("own");
    for (const int64_t split : {int64_t{0}, int64_t{1}, kRows - 2, kRows}) {
      const Var y = SplitLinear(test.Context(), x, split, base, &own);
      EXPECT_LT(
          testing::RelativeDifference(testing::ToDouble(y.value), Expected(x.value, base.value, own.value, split)),
          1e-14);
      EXPECT_EQ(y.placement, Placements::Rows(p.output));
      const Var shared = SplitLinear(test.Context(), x, split, base, nullptr);
      EXPECT_LT(
          testing::RelativeDifference(testing::ToDouble(shared.value), Expected(x.value, base.value, base.value, 0)),
          1e-14);
    }
  }
}

TEST(LinearTest, Gradients) {
  for (const Parallelism& p : kParallelisms) {
    for (const int64_t split : {int64_t{0}, int64_t{2}, kRows}) {
      OpTest test({Weight("base", {kOut, kIn}, p.weight), Weight("own", {kOut, kIn}, p.weight)});
      test.ExpectGradients({Input({kRows, kIn}, p.input)}, [&](const ExecContext& cx, const Vars& x) {
        return SplitLinear(cx, x[0], split, test.Get("base"), &test.Get("own"));
      });
      test.ExpectGradients({Input({kRows, kIn}, p.input)}, [&](const ExecContext& cx, const Vars& x) {
        return SplitLinear(cx, x[0], split, test.Get("base"), nullptr);
      });
    }
  }
}

TEST(LinearTest, AWeightUsedTwiceAddsBothGradients) {
  OpTest test({Weight("w", {kIn, kIn})});
  test.ExpectGradients({Input({kRows, kIn})}, [&](const ExecContext& cx, const Vars& x) {
    return Linear(cx, Linear(cx, x[0], test.Get("w")), test.Get("w"));
  });
}

TEST(LinearTest, AWeightWithoutRowsIsLeftToFinishGradients) {
  OpTest test({Weight("base", {kOut, kIn}), Weight("own", {kOut, kIn})});
  Tape tape;
  const ExecContext cx = test.Context(&tape);
  const Var x = Leaf(cx, test.Constant("x", Input({kRows, kIn})).value, Placements::Rows());
  const Var y = SplitLinear(cx, x, kRows, test.Get("base"), &test.Get("own"));
  tape.Backward(cx, y, testing::Clone(y.value, test.allocator()));
  EXPECT_TRUE(test.Get("base").grad_written);
  EXPECT_FALSE(test.Get("own").grad_written);
}

TEST(LinearTest, RefusesWrongPlacements) {
  const Placement all[] = {Placement::Replicated(),
                           Placement::Entered(),
                           Placement::Sharded(0),
                           Placement::Sharded(1),
                           Placement::Partial()};
  for (const Parallelism& p : kParallelisms) {
    OpTest test({Weight("w", {kOut, kIn}, p.weight)});
    for (const Placement& given : all) {
      const Var x = test.Constant("x", Input({kRows, kIn}, given));
      if (given == p.input) {
        EXPECT_NO_THROW((void)Linear(test.Context(), x, test.Get("w")));
      } else {
        EXPECT_THROW((void)Linear(test.Context(), x, test.Get("w")), Error)
            << given.ToString() << " into a weight that is " << p.weight.ToString();
      }
    }
  }
}

TEST(LinearTest, RefusesValuesThatAreSumsOverDataOrContext) {
  OpTest test({Weight("w", {kOut, kIn})});
  for (const MeshAxis axis : {MeshAxis::kData, MeshAxis::kContext}) {
    Var x = test.Constant("x", Input({kRows, kIn}));
    x.placement[axis] = Placement::Partial();
    EXPECT_THROW((void)Linear(test.Context(), x, test.Get("w")), Error);
  }
}

TEST(LinearTest, RefusesASummaryWeightThatLiesDifferently) {
  OpTest test({Weight("base", {kOut, kIn}, Placement::Sharded(0)), Weight("own", {kOut, kIn})});
  const Var x = test.Constant("x", Input({kRows, kIn}, Placement::Entered()));
  EXPECT_THROW((void)SplitLinear(test.Context(), x, 2, test.Get("base"), &test.Get("own")), Error);
}

}  // namespace
}  // namespace ksa
