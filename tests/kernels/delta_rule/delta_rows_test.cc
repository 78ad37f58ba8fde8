// The gates, the length of queries and keys, and the gated norm: forward against the formula in long double, backward
// against central differences, narrower types against fp64 from the same rounded inputs.
#include <cmath>
#include <functional>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/delta_rule/delta_gates.h"
#include "kernels/delta_rule/gated_norm.h"
#include "kernels/delta_rule/l2_norm.h"
#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::ElementAt;
using testing::GuardAllocator;
using testing::kCentralDifferenceTolerance;

constexpr double kEps = 1e-5;

// A copy of `x` in fp64, whatever it is rounded to.
Tensor Widened(const Tensor& x, Allocator& memory) {
  Tensor wide = Tensor::Empty(x.shape(), DType::kF64, memory);
  for (int64_t i = 0; i < x.size(); ++i) {
    testing::SetElement(wide, i, ElementAt(x, i));
  }
  return wide;
}

void ExpectNear(const Tensor& actual, const std::vector<double>& expected, double bound, const char* what) {
  EXPECT_LE(testing::RelativeDifference(testing::ToDouble(actual), expected), bound) << what;
}

// What a type may be off by: it rounds once what it stores; a few dozen operations in the accumulation type.
double Bound(DType dtype) {
  return testing::UnitRoundoff(dtype) + 64 * testing::UnitRoundoff(AccumulationType(dtype));
}

struct Size {
  int64_t rows;
  int64_t heads;
  int64_t dim;
};

class DeltaRows : public ::testing::TestWithParam<Size> {
 protected:
  [[nodiscard]] static Shape Heads() { return {GetParam().rows, GetParam().heads, GetParam().dim}; }

  GuardAllocator memory_;
};

TEST_P(DeltaRows, LengthOne) {
  for (const DType dtype : testing::kFloatingTypes) {
    const Tensor x = testing::Normal("x", Heads(), dtype, memory_);
    const Tensor y = Tensor::Empty(Heads(), dtype, memory_);
    L2NormForward({.x = x, .y = y}, {});
    const int64_t e = GetParam().dim;
    std::vector<double> want;
    for (int64_t i = 0; i < x.size(); ++i) {
      long double squares = 1e-6L;
      for (int64_t j = i / e * e; j < i / e * e + e; ++j) {
        squares += static_cast<long double>(ElementAt(x, j)) * ElementAt(x, j);
      }
      want.push_back(static_cast<double>(ElementAt(x, i) / std::sqrt(squares)));
    }
    ExpectNear(y, want, Bound(dtype), "y");
  }
}

TEST_P(DeltaRows, LengthOneBackward) {
  const Tensor x = testing::Normal("x", Heads(), DType::kF64, memory_);
  const Tensor dy = testing::Normal("dy", Heads(), DType::kF64, memory_);
  const Tensor y = Tensor::Empty(Heads(), DType::kF64, memory_);
  const Tensor dx = Tensor::Empty(Heads(), DType::kF64, memory_);
  L2NormBackward({.x = x, .dy = dy, .dx = dx}, {});
  const std::vector<double> want = testing::CentralDifferences(x, [&] {
    L2NormForward({.x = x, .y = y}, {});
    return testing::Dot(y, dy);
  });
  // Of one element, whose length hardly changes, all but 1e-6 cancels.
  EXPECT_LE(testing::RelativeDifference(testing::ToDouble(dx), want), GetParam().dim == 1 ? 1e-3 : 1e-7);
}

TEST_P(DeltaRows, Gates) {
  const Shape shape = {GetParam().rows, GetParam().heads};
  for (const DType dtype : testing::kFloatingTypes) {
    const DType exact = AccumulationType(dtype);
    const Tensor a = testing::Normal("a", shape, dtype, memory_);
    const Tensor b = testing::Normal("b", shape, dtype, memory_);
    testing::SetElement(a, 0, 90.0);  // e^a is no float
    testing::SetElement(b, 0, -80.0);
    const Tensor a_log = testing::Normal("a_log", {GetParam().heads}, exact, memory_);
    const Tensor dt_bias = testing::Normal("dt_bias", {GetParam().heads}, exact, memory_);
    const Tensor g = Tensor::Empty(shape, exact, memory_);
    const Tensor beta = Tensor::Empty(shape, exact, memory_);
    DeltaGatesForward({.a = a, .b = b, .a_log = a_log, .dt_bias = dt_bias, .g = g, .beta = beta, .most = 2.0}, {});
    std::vector<double> want_g;
    std::vector<double> want_beta;
    for (int64_t i = 0; i < a.size(); ++i) {
      const int64_t h = i % GetParam().heads;
      const long double x = static_cast<long double>(ElementAt(a, i)) + ElementAt(dt_bias, h);
      want_g.push_back(
          static_cast<double>(-std::exp(static_cast<long double>(ElementAt(a_log, h))) * std::log1p(std::exp(x))));
      want_beta.push_back(static_cast<double>(2.0L / (1.0L + std::exp(-static_cast<long double>(ElementAt(b, i))))));
    }
    ExpectNear(g, want_g, 64 * testing::UnitRoundoff(exact), "g");
    ExpectNear(beta, want_beta, 64 * testing::UnitRoundoff(exact), "beta");
  }
}

TEST_P(DeltaRows, GatesBackward) {
  const Shape shape = {GetParam().rows, GetParam().heads};
  const Shape heads = {GetParam().heads};
  const auto normal = [&](const char* name, const Shape& s) { return testing::Normal(name, s, DType::kF64, memory_); };
  const Tensor a = normal("a", shape);
  const Tensor b = normal("b", shape);
  const Tensor a_log = normal("a_log", heads);
  const Tensor dt_bias = normal("dt_bias", heads);
  const Tensor dg = normal("dg", shape);
  const Tensor dbeta = normal("dbeta", shape);
  const Tensor g = Tensor::Empty(shape, DType::kF64, memory_);
  const Tensor beta = Tensor::Empty(shape, DType::kF64, memory_);
  const Tensor da = Tensor::Empty(shape, DType::kF64, memory_);
  const Tensor db = Tensor::Empty(shape, DType::kF64, memory_);
  const Tensor da_log = normal("before", heads);
  const Tensor ddt_bias = Tensor::Empty(heads, DType::kF64, memory_);
  std::vector<double> want_a_log = testing::ToDouble(da_log);
  DeltaGatesBackward({.a = a,
                      .b = b,
                      .a_log = a_log,
                      .dt_bias = dt_bias,
                      .dg = dg,
                      .dbeta = dbeta,
                      .da = da,
                      .db = db,
                      .da_log = da_log,
                      .ddt_bias = ddt_bias,
                      .most = 2.0,
                      .accumulate_a_log = true,
                      .accumulate_dt_bias = false},
                     {});
  const auto loss = [&] {
    DeltaGatesForward({.a = a, .b = b, .a_log = a_log, .dt_bias = dt_bias, .g = g, .beta = beta, .most = 2.0}, {});
    return testing::Dot(g, dg) + testing::Dot(beta, dbeta);
  };
  const std::vector<double> more = testing::CentralDifferences(a_log, loss);
  for (size_t i = 0; i < more.size(); ++i) {
    want_a_log[i] += more[i];
  }
  ExpectNear(da, testing::CentralDifferences(a, loss), kCentralDifferenceTolerance, "da");
  ExpectNear(db, testing::CentralDifferences(b, loss), kCentralDifferenceTolerance, "db");
  ExpectNear(da_log, want_a_log, kCentralDifferenceTolerance, "da_log");
  ExpectNear(ddt_bias, testing::CentralDifferences(dt_bias, loss), kCentralDifferenceTolerance, "ddt_bias");
}

TEST_P(DeltaRows, GatedNorm) {
  for (const DType dtype : testing::kFloatingTypes) {
    const Tensor x = testing::Normal("x", Heads(), dtype, memory_);
    const Tensor z = testing::Normal("z", Heads(), dtype, memory_);
    const Tensor weight = testing::Normal("weight", {GetParam().dim}, dtype, memory_);
    const Tensor y = Tensor::Empty(Heads(), dtype, memory_);
    GatedNormForward({.x = x, .z = z, .weight = weight, .y = y, .eps = kEps}, {});
    const int64_t e = GetParam().dim;
    std::vector<double> want;
    for (int64_t i = 0; i < x.size(); ++i) {
      long double squares = 0.0L;
      for (int64_t j = i / e * e; j < i / e * e + e; ++j) {
        squares += static_cast<long double>(ElementAt(x, j)) * ElementAt(x, j);
      }
      const long double gate = ElementAt(z, i) / (1.0L + std::exp(-static_cast<long double>(ElementAt(z, i))));
      want.push_back(
          static_cast<double>(ElementAt(weight, i % e) * ElementAt(x, i) / std::sqrt(squares / e + kEps) * gate));
    }
    ExpectNear(y, want, Bound(dtype), "y");
  }
}

TEST_P(DeltaRows, GatedNormBackward) {
  const Tensor x = testing::Normal("x", Heads(), DType::kF64, memory_);
  const Tensor z = testing::Normal("z", Heads(), DType::kF64, memory_);
  const Tensor weight = testing::Normal("weight", {GetParam().dim}, DType::kF64, memory_);
  const Tensor dy = testing::Normal("dy", Heads(), DType::kF64, memory_);
  const Tensor y = Tensor::Empty(Heads(), DType::kF64, memory_);
  const Tensor dx = testing::Clone(dy, memory_);
  const Tensor dz = Tensor::Empty(Heads(), DType::kF64, memory_);
  const Tensor dweight = Tensor::Empty({GetParam().dim}, DType::kF64, memory_);
  GatedNormBackward({.x = x,
                     .z = z,
                     .weight = weight,
                     .dy = dx,
                     .dx = dx,
                     .dz = dz,
                     .dweight = dweight,
                     .eps = kEps,
                     .accumulate = false},
                    {});
  const auto loss = [&] {
    GatedNormForward({.x = x, .z = z, .weight = weight, .y = y, .eps = kEps}, {});
    return testing::Dot(y, dy);
  };
  // Of one element, whose root mean square is itself, all but eps cancels.
  ExpectNear(dx, testing::CentralDifferences(x, loss), GetParam().dim == 1 ? 1e-3 : 1e-7, "dx");
  ExpectNear(dz, testing::CentralDifferences(z, loss), kCentralDifferenceTolerance, "dz");
  ExpectNear(dweight, testing::CentralDifferences(weight, loss), kCentralDifferenceTolerance, "dweight");
}

// Gradients in fp32 and bf16 against fp64 from the same numbers.
TEST_P(DeltaRows, NarrowGradients) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor x = testing::Normal("x", Heads(), dtype, memory_);
    const Tensor z = testing::Normal("z", Heads(), dtype, memory_);
    const Tensor dy = testing::Normal("dy", Heads(), dtype, memory_);
    const Tensor weight = testing::Normal("weight", {GetParam().dim}, dtype, memory_);
    std::vector<Tensor> results[2];
    for (const bool wide : {false, true}) {
      const auto in = [&](const Tensor& t) { return wide ? Widened(t, memory_) : t; };
      const DType type = wide ? DType::kF64 : dtype;
      const Tensor dx = Tensor::Empty(Heads(), type, memory_);
      const Tensor dz = Tensor::Empty(Heads(), type, memory_);
      const Tensor dl = Tensor::Empty(Heads(), type, memory_);
      GatedNormBackward({.x = in(x), .z = in(z), .weight = in(weight), .dy = in(dy), .dx = dx, .dz = dz, .eps = kEps},
                        {});
      L2NormBackward({.x = in(x), .dy = in(dy), .dx = dl}, {});
      results[wide ? 1 : 0] = {dx, dz, dl};
    }
    for (size_t i = 0; i < 3; ++i) {
      if (GetParam().dim == 1 && i != 1) {
        continue;  // gradients of the length of one number: what is left of a cancellation
      }
      EXPECT_LE(testing::RelativeDifference(testing::ToDouble(results[0][i]), testing::ToDouble(results[1][i])),
                4 * Bound(dtype))
          << NameOf(dtype) << " " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes,
                         DeltaRows,
                         ::testing::Values(Size{1, 1, 1}, Size{3, 2, 5}, Size{7, 3, 16}, Size{113, 1, 33}),
                         [](const auto& test) {
                           return fmt::format("{}x{}x{}", test.param.rows, test.param.heads, test.param.dim);
                         });

TEST(DeltaRowsTest, SameBitsForAllThreadCounts) {
  testing::ExpectSameForAllThreadCounts([](const Stream& stream) {
    static GuardAllocator memory;
    const Shape shape = {400, 3, 16};
    const Tensor x = testing::Normal("x", shape, DType::kF32, memory);
    const Tensor dx = Tensor::Empty(shape, DType::kF32, memory);
    const Tensor dz = Tensor::Empty(shape, DType::kF32, memory);
    const Tensor weight = testing::Normal("weight", {16}, DType::kF32, memory);
    const Tensor dweight = Tensor::Empty({16}, DType::kF32, memory);
    GatedNormBackward(
        {.x = x, .z = x, .weight = weight, .dy = x, .dx = dx, .dz = dz, .dweight = dweight, .accumulate = false},
        stream);
    return std::vector<Tensor>{dx, dz, dweight};
  });
}

}  // namespace
}  // namespace ksa
