// RMSNorm over rows, and the per-head norm with rotary embedding.
#include <cmath>

#include "kernels/rope/qk_norm_rope.h"
#include "model/ops/norm.h"
#include "model/ops/rope.h"
#include "tests/support/jacobian.h"

namespace ksa {
namespace {

using testing::Input;
using testing::OpTest;
using testing::PartialWeight;
using testing::RelativeDifference;
using testing::ToDouble;
using testing::Vars;
using testing::Weight;

constexpr double kEps = 0.3;  // large, so that leaving it out shows
constexpr double kTheta = 100.0;

std::vector<double> Normed(const double* x, const double* weight, int64_t size) {
  double squares = 0.0;
  for (int64_t i = 0; i < size; ++i) {
    squares += x[i] * x[i];
  }
  const double scale = 1.0 / std::sqrt(squares / static_cast<double>(size) + kEps);
  std::vector<double> y;
  for (int64_t i = 0; i < size; ++i) {
    y.push_back(x[i] * scale * weight[i]);
  }
  return y;
}

TEST(RmsNormTest, Values) {
  constexpr int64_t kCols = 5;
  OpTest test({Weight("base", {kCols}), Weight("own", {kCols})});
  const Var x = test.Constant("x", Input({4, kCols}));
  for (const int64_t split : {int64_t{0}, int64_t{3}, int64_t{4}}) {
    for (const bool has_own : {false, true}) {
      std::vector<double> expected;
      for (int64_t r = 0; r < 4; ++r) {
        const bool own = has_own && r >= split;
        const std::vector<double> row =
            Normed(x.value.As<double>() + r * kCols, test.Get(own ? "own" : "base").value.As<double>(), kCols);
        expected.insert(expected.end(), row.begin(), row.end());
      }
      const Var y = RmsNorm(test.Context(), x, split, test.Get("base"), has_own ? &test.Get("own") : nullptr, kEps);
      EXPECT_LT(RelativeDifference(ToDouble(y.value), expected), 1e-14);
      EXPECT_EQ(y.placement, x.placement);
    }
  }
}

TEST(RmsNormTest, Gradients) {
  for (const int64_t split : {int64_t{0}, int64_t{3}, int64_t{5}}) {
    for (const bool has_own : {false, true}) {
      OpTest test({Weight("base", {6}), Weight("own", {6})});
      test.ExpectGradients({Input({5, 6})}, [&](const ExecContext& cx, const Vars& x) {
        return RmsNorm(cx, x[0], split, test.Get("base"), has_own ? &test.Get("own") : nullptr, kEps);
      });
    }
  }
}

TEST(RmsNormTest, Placements) {
  OpTest test({Weight("whole", {6}), PartialWeight("partial", {6})});
  const auto run = [&](const Placement& tensor, const char* weight, const char* own) {
    const Var x = test.Constant("x", Input({5, 6}, tensor));
    return RmsNorm(test.Context(), x, 3, test.Get(weight), own == nullptr ? nullptr : &test.Get(own), kEps);
  };
  EXPECT_EQ(run(Placement::Replicated(), "whole", "whole").placement, Placements::Rows());
  const Placement rows = Placement::Sharded(0);
  EXPECT_EQ(run(rows, "partial", "partial").placement, Placements::Rows(rows));
  // Gradients that nobody would sum, or somebody twice.
  EXPECT_THROW((void)run(rows, "whole", nullptr), Error);
  EXPECT_THROW((void)run(rows, "partial", "whole"), Error);
  EXPECT_THROW((void)run(Placement::Replicated(), "partial", nullptr), Error);
  EXPECT_THROW((void)run(Placement::Replicated(), "whole", "partial"), Error);
}

// Two sequences of 5 tokens, chunks of 2 with 2 summaries each, of which the first 2 chunks' are live.
SummaryLayout Layout() {
  return {.sequences = 2, .text_tokens = 5, .chunk_size = 2, .summary_tokens = 2, .live_chunks = 2};
}

class RopeTest : public ::testing::Test {
 protected:
  static constexpr int kHeadDim = 4;
  static constexpr int64_t kHeads = 2;
  static constexpr int64_t kCols = kHeadDim * kHeads;

  RopeTest()
      : test_({PartialWeight("base", {kHeadDim}), PartialWeight("own", {kHeadDim}), Weight("whole", {kHeadDim})}),
        table_(Tensor::Empty({5, kHeadDim / 2, 2}, DType::kF64, test_.allocator())) {
    FillRopeTable(table_, kTheta, {});
  }

  QkNormRopeSpec Spec(int64_t first_row, int64_t split, bool norm, bool own) {
    return {.layout = Layout(),
            .first_row = first_row,
            .split = split,
            .weight = norm ? &test_.Get("base") : nullptr,
            .weight_summary = own ? &test_.Get("own") : nullptr,
            .table = table_,
            .head_dim = kHeadDim,
            .eps = kEps};
  }

  // By the definition, from the positions of docs/ksa.md: text i at i, summary a of chunk c (2 tokens each) at 2c + a.
  std::vector<double> Expected(const TensorView& x, const QkNormRopeSpec& spec) {
    std::vector<double> y;
    for (int64_t r = 0; r < x.rows(); ++r) {
      const int64_t row = r + spec.first_row;
      const int64_t position = row < 10 ? row % 5 : (row - 10) % 4;
      const bool own = spec.weight_summary != nullptr && r >= spec.split;
      for (int64_t h = 0; h < kHeads; ++h) {
        const double* in = x.As<double>() + r * kCols + h * kHeadDim;
        std::vector<double> head(in, in + kHeadDim);
        if (spec.weight != nullptr) {
          head = Normed(in, (own ? spec.weight_summary : spec.weight)->value.As<double>(), kHeadDim);
        }
        for (int i = 0; i < kHeadDim; ++i) {
          const int pair = i % (kHeadDim / 2);
          const double angle = static_cast<double>(position) * std::pow(kTheta, -2.0 * pair / kHeadDim);
          const double other = i < kHeadDim / 2 ? -head[static_cast<size_t>(i + kHeadDim / 2)]
                                                : head[static_cast<size_t>(i - kHeadDim / 2)];
          y.push_back(head[static_cast<size_t>(i)] * std::cos(angle) + other * std::sin(angle));
        }
      }
    }
    return y;
  }

  void Expect(int64_t rows, const QkNormRopeSpec& spec) {
    const Var x = test_.Constant("x", Input({rows, kCols}, Placement::Sharded(1)));
    EXPECT_LT(RelativeDifference(ToDouble(QkNormRope(test_.Context(), x, spec).value), Expected(x.value, spec)), 1e-14);
    test_.ExpectGradients({Input({rows, kCols}, Placement::Sharded(1))},
                          [&](const ExecContext& cx, const Vars& in) { return QkNormRope(cx, in[0], spec); });
  }

  OpTest test_;
  Tensor table_;
};

TEST_F(RopeTest, AllRows) {
  Expect(18, Spec(0, 10, false, false));
  Expect(18, Spec(0, 10, true, false));
  Expect(18, Spec(0, 10, true, true));
}

TEST_F(RopeTest, TextRowsAlone) {
  Expect(10, Spec(0, 10, true, false));
  Expect(10, Spec(0, 10, false, false));
}

TEST_F(RopeTest, SummaryRowsAlone) {
  Expect(8, Spec(10, 0, true, false));
  Expect(8, Spec(10, 0, true, true));
}

TEST_F(RopeTest, RefusesWrongHeadsAndWholeGradients) {
  QkNormRopeSpec spec = Spec(0, 10, true, true);
  const Var cut = test_.Constant("x", Input({18, kCols - 1}, Placement::Sharded(1)));
  EXPECT_THROW((void)QkNormRope(test_.Context(), cut, spec), Error);
  const Var x = test_.Constant("x", Input({18, kCols}, Placement::Sharded(1)));
  EXPECT_NO_THROW((void)QkNormRope(test_.Context(), x, spec));
  // Of heads that other ranks have, somebody must add the gradients.
  spec.weight_summary = &test_.Get("whole");
  EXPECT_THROW((void)QkNormRope(test_.Context(), x, spec), Error);
  spec.weight_summary = nullptr;
  spec.weight = &test_.Get("whole");
  EXPECT_THROW((void)QkNormRope(test_.Context(), x, spec), Error);
}

}  // namespace
}  // namespace ksa
