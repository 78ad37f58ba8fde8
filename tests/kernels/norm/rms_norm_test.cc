#include "kernels/norm/rms_norm.h"

#include <cmath>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/copy/elementwise.h"
#include "tests/support/error_bound.h"
#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::Bounded;
using testing::BoundedValues;
using testing::GuardAllocator;

constexpr double kEps = 1e-5;

// The tensors of one forward and backward call.
struct Problem {
  Problem(int64_t rows, int64_t cols, int64_t first_summary, bool two_weights, DType type, Allocator& memory)
      : n(rows), d(cols), split(first_summary), dtype(type) {
    x = testing::Normal("x", {n, d}, dtype, memory);
    dy = testing::Normal("dy", {n, d}, dtype, memory);
    weight = testing::Normal("weight", {d}, dtype, memory);
    y = Tensor::Empty({n, d}, dtype, memory);
    dx = Tensor::Empty({n, d}, dtype, memory);
    rstd = Tensor::Empty({n}, AccumulationType(dtype), memory);
    dweight = testing::Normal("dweight", {d}, AccumulationType(dtype), memory);
    if (two_weights) {
      weight_summary = testing::Normal("weight_summary", {d}, dtype, memory);
      dweight_summary = testing::Normal("dweight_summary", {d}, AccumulationType(dtype), memory);
    }
  }

  void Forward(const Stream& stream = {}) const {
    RmsNormForward(
        {.x = x, .weight = weight, .weight_summary = weight_summary, .y = y, .rstd = rstd, .split = split, .eps = kEps},
        stream);
  }

  void Backward(bool accumulate, bool accumulate_summary, const Stream& stream = {}) const {
    RmsNormBackward({.dy = dy,
                     .x = x,
                     .rstd = rstd,
                     .weight = weight,
                     .weight_summary = weight_summary,
                     .dx = dx,
                     .dweight = dweight,
                     .dweight_summary = dweight_summary,
                     .split = split,
                     .accumulate = accumulate,
                     .accumulate_summary = accumulate_summary},
                    stream);
  }

  [[nodiscard]] bool UsesSummary(int64_t row) const { return !weight_summary.empty() && row >= split; }

  int64_t n;
  int64_t d;
  int64_t split;
  DType dtype;
  Tensor x, dy, weight, weight_summary, y, rstd, dx, dweight, dweight_summary;
};

struct Expected {
  BoundedValues y;
  BoundedValues rstd;
  BoundedValues dx;
  std::vector<testing::Sum> dweight;
  std::vector<testing::Sum> dweight_summary;
};

// Straight from y = x · rstd · w and its derivative.
Expected Reference(const Problem& p) {
  const auto d = static_cast<size_t>(p.d);
  const BoundedValues x = testing::Exact(p.x);
  const BoundedValues dy = testing::Exact(p.dy);
  const BoundedValues text = testing::Exact(p.weight);
  const BoundedValues summary = p.weight_summary.empty() ? text : testing::Exact(p.weight_summary);
  Expected out;
  out.dweight.resize(d);
  out.dweight_summary.resize(d);
  for (int64_t r = 0; r < p.n; ++r) {
    const size_t row = static_cast<size_t>(r) * d;
    const BoundedValues& w = p.UsesSummary(r) ? summary : text;
    testing::Sum squares;
    for (size_t i = 0; i < d; ++i) {
      squares.Add(x[row + i] * x[row + i]);
    }
    const Bounded mean_square = squares.Result() / Bounded(p.d);
    const Bounded rstd = Bounded(1) / Sqrt(mean_square + testing::Constant(kEps, p.dtype));
    out.rstd.push_back(rstd);
    testing::Sum projection;
    for (size_t i = 0; i < d; ++i) {
      projection.Add(dy[row + i] * w[i] * x[row + i] * rstd);
    }
    const Bounded mean = projection.Result() / Bounded(p.d);
    for (size_t i = 0; i < d; ++i) {
      const Bounded normed = x[row + i] * rstd;
      out.y.push_back(normed * w[i]);
      out.dx.push_back(rstd * (dy[row + i] * w[i] - normed * mean));
      (p.UsesSummary(r) ? out.dweight_summary : out.dweight)[i].Add(dy[row + i] * normed);
    }
  }
  return out;
}

BoundedValues Added(const BoundedValues& before, const std::vector<testing::Sum>& sums, bool accumulate) {
  BoundedValues out;
  for (size_t i = 0; i < sums.size(); ++i) {
    const Bounded sum = sums[i].Result();
    out.push_back(accumulate ? before[i] + sum : sum);
  }
  return out;
}

void Check(const Problem& p, bool accumulate, bool accumulate_summary) {
  SCOPED_TRACE(fmt::format("n {} d {} split {} two weights {} {} accumulate {} {}",
                           p.n,
                           p.d,
                           p.split,
                           !p.weight_summary.empty(),
                           NameOf(p.dtype),
                           accumulate,
                           accumulate_summary));
  const Expected want = Reference(p);
  const BoundedValues before = testing::Exact(p.dweight);
  p.Forward();
  testing::ExpectWithinBound(p.y, want.y, "y");
  testing::ExpectWithinBound(p.rstd, want.rstd, "rstd");
  BoundedValues before_summary;
  if (!p.weight_summary.empty()) {
    before_summary = testing::Exact(p.dweight_summary);
  }
  p.Backward(accumulate, accumulate_summary);
  testing::ExpectWithinBound(p.dx, want.dx, "dx");
  testing::ExpectWithinBound(p.dweight, Added(before, want.dweight, accumulate), "dweight");
  if (!p.weight_summary.empty()) {
    testing::ExpectWithinBound(
        p.dweight_summary, Added(before_summary, want.dweight_summary, accumulate_summary), "dweight_summary");
  }
}

TEST(RmsNorm, MatchesDefinition) {
  for (const DType dtype : testing::kFloatingTypes) {
    for (const int64_t d : {1, 3, 7, 16, 113, 1023}) {
      for (const int64_t n : {1, 3, 113}) {
        GuardAllocator memory;
        Check(Problem(n, d, 0, false, dtype, memory), d % 2 == 0, true);
        Check(Problem(n, d, n / 2, true, dtype, memory), true, false);
        Check(Problem(n, d, n / 2, true, dtype, memory), false, true);
      }
    }
  }
}

// A weight without rows gets a gradient of zero when it is written and keeps its own when it is added to.
TEST(RmsNorm, WeightWithoutRows) {
  for (const DType dtype : testing::kFloatingTypes) {
    for (const bool accumulate : {false, true}) {
      GuardAllocator memory;
      Check(Problem(5, 7, 5, true, dtype, memory), accumulate, accumulate);  // no summary rows
      Check(Problem(5, 7, 0, true, dtype, memory), accumulate, accumulate);  // no text rows
      Check(Problem(0, 7, 0, true, dtype, memory), accumulate, accumulate);  // no rows
    }
  }
}

TEST(RmsNorm, GradientsAreDerivatives) {
  GuardAllocator memory;
  const Problem p(5, 7, 3, true, DType::kF64, memory);
  p.Forward();
  p.Backward(false, false);
  const auto f = [&] {
    p.Forward();
    return testing::Dot(p.dy, p.y);
  };
  for (const auto& [input, gradient] :
       {std::pair{&p.x, &p.dx}, std::pair{&p.weight, &p.dweight}, std::pair{&p.weight_summary, &p.dweight_summary}}) {
    const std::vector<double> differences = testing::CentralDifferences(*input, f);
    EXPECT_LT(testing::RelativeDifference(testing::ToDouble(*gradient), differences),
              testing::kCentralDifferenceTolerance);
  }
}

TEST(RmsNorm, ThreadsDoNotMatter) {
  GuardAllocator memory;
  for (const DType dtype : testing::kFloatingTypes) {
    testing::ExpectSameForAllThreadCounts([&](const Stream& stream) {
      const Problem p(1023, 113, 700, true, dtype, memory);
      p.Forward(stream);
      p.Backward(true, false, stream);
      return std::vector<Tensor>{p.y, p.rstd, p.dx, p.dweight, p.dweight_summary};
    });
  }
}

TEST(RmsNorm, GradientOfAFrozenWeightMayBeLeftOut) {
  GuardAllocator memory;
  const Problem p(9, 7, 4, true, DType::kF32, memory);
  p.Forward();
  p.Backward(true, true);
  const Tensor dx = testing::Clone(p.dx, memory);
  const Tensor out = Tensor::Empty({9, 7}, DType::kF32, memory);
  RmsNormBackward({.dy = p.dy,
                   .x = p.x,
                   .rstd = p.rstd,
                   .weight = p.weight,
                   .weight_summary = p.weight_summary,
                   .dx = out,
                   .split = 4},
                  {});
  testing::ExpectSameBits(out, dx, "dx");
}

// A residual connection in the call is an Add before or behind it, in bits; in rows without a residual, a copy.
TEST(RmsNorm, ResidualIsASeparateAdd) {
  for (const DType dtype : testing::kFloatingTypes) {
    for (const int64_t rows : {0, 5, 9}) {
      SCOPED_TRACE(fmt::format("{} rows of 9, {}", rows, NameOf(dtype)));
      GuardAllocator memory;
      const Problem apart(9, 113, 4, true, dtype, memory);
      const Problem fused(9, 113, 4, true, dtype, memory);
      const Tensor residual = testing::Normal("residual", {9, 113}, dtype, memory).Rows(0, rows);
      const Tensor past = testing::Normal("past", {9, 113}, dtype, memory);
      const Tensor sum = Tensor::Empty({9, 113}, dtype, memory);
      RmsNormForwardArgs forward = {.x = fused.x,
                                    .residual = residual,
                                    .sum_out = sum,
                                    .weight = fused.weight,
                                    .weight_summary = fused.weight_summary,
                                    .y = fused.y,
                                    .rstd = fused.rstd,
                                    .split = 4,
                                    .eps = kEps};
      RmsNormBackwardArgs backward = {.dy = fused.dy,
                                      .x = sum,
                                      .rstd = fused.rstd,
                                      .weight = fused.weight,
                                      .weight_summary = fused.weight_summary,
                                      .dx_residual = past,
                                      .dx = fused.dx,
                                      .dweight = fused.dweight,
                                      .dweight_summary = fused.dweight_summary,
                                      .split = 4};
      RmsNormForward(forward, {});
      RmsNormBackward(backward, {});

      const Tensor top = apart.x.Rows(0, rows);
      Add(top, residual, top, {});
      apart.Forward();
      apart.Backward(true, true);
      Add(past, apart.dx, apart.dx, {});
      testing::ExpectSameBits(sum, apart.x, "sum_out");
      testing::ExpectSameBits(fused.y, apart.y, "y");
      testing::ExpectSameBits(fused.dx, apart.dx, "dx");
      testing::ExpectSameBits(fused.dweight, apart.dweight, "dweight");

      // Both in place.
      forward.sum_out = fused.x;
      backward.x = fused.x;
      backward.dx = past;
      RmsNormForward(forward, {});
      RmsNormBackward(backward, {});
      testing::ExpectSameBits(fused.x, sum, "sum over x");
      testing::ExpectSameBits(past, fused.dx, "dx over what it is added to");
    }
  }
}

TEST(RmsNorm, RefusesWrongArguments) {
  GuardAllocator memory;
  const Problem p(4, 6, 5, true, DType::kF32, memory);
  EXPECT_THROW(p.Forward(), Error);  // split behind the last row
  Problem q(4, 6, 2, true, DType::kF32, memory);
  q.rstd = Tensor::Empty({4}, DType::kF64, memory);
  EXPECT_THROW(q.Forward(), Error);
  q = Problem(4, 6, 2, true, DType::kF32, memory);
  q.weight_summary = Tensor::Empty({5}, DType::kF32, memory);
  EXPECT_THROW(q.Forward(), Error);
  EXPECT_THROW(q.Backward(true, true), Error);
  q = Problem(4, 6, 2, true, DType::kF32, memory);
  RmsNormForwardArgs args = {.x = q.x, .residual = q.dy, .weight = q.weight, .y = q.y, .rstd = q.rstd};
  EXPECT_THROW(RmsNormForward(args, {}), Error);  // no place for the sum
  args.sum_out = q.dx;
  args.residual = testing::Normal("long", {5, 6}, DType::kF32, memory);
  EXPECT_THROW(RmsNormForward(args, {}), Error);
}

}  // namespace
}  // namespace ksa
