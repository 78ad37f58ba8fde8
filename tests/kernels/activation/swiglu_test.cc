#include "kernels/activation/swiglu.h"

#include <cmath>
#include <limits>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/support/error_bound.h"
#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::Bounded;
using testing::BoundedValues;
using testing::GuardAllocator;

struct Problem {
  Problem(int64_t n, int64_t f, DType dtype, Allocator& memory) {
    gate = testing::Normal("gate", {n, f}, dtype, memory);
    up = testing::Normal("up", {n, f}, dtype, memory);
    dy = testing::Normal("dy", {n, f}, dtype, memory);
    for (int64_t i = 0; i < gate.size(); ++i) {  // far into both tails
      testing::SetElement(gate, i, 8.0 * testing::ElementAt(gate, i));
    }
    y = Tensor::Empty({n, f}, dtype, memory);
    dgate = Tensor::Empty({n, f}, dtype, memory);
    dup = Tensor::Empty({n, f}, dtype, memory);
  }

  void Forward(const Stream& stream = {}) const { SwigluForward({.gate = gate, .up = up, .y = y}, stream); }

  void Backward(const Stream& stream = {}) const {
    SwigluBackward({.dy = dy, .gate = gate, .up = up, .dgate = dgate, .dup = dup}, stream);
  }

  Tensor gate, up, dy, y, dgate, dup;
};

TEST(Swiglu, MatchesDefinition) {
  for (const DType dtype : testing::kFloatingTypes) {
    for (const int64_t f : {1, 3, 7, 113, 1023}) {
      SCOPED_TRACE(fmt::format("{} columns of {}", f, NameOf(dtype)));
      GuardAllocator memory;
      const Problem p(7, f, dtype, memory);
      const BoundedValues gate = testing::Exact(p.gate);
      const BoundedValues up = testing::Exact(p.up);
      const BoundedValues dy = testing::Exact(p.dy);
      BoundedValues y;
      BoundedValues dgate;
      BoundedValues dup;
      for (size_t i = 0; i < gate.size(); ++i) {
        const Bounded s = Bounded(1) / (Bounded(1) + Exponential(Bounded(0) - gate[i]));
        y.push_back(gate[i] * s * up[i]);
        dup.push_back(dy[i] * gate[i] * s);
        dgate.push_back(dy[i] * up[i] * s * (Bounded(1) + gate[i] * (Bounded(1) - s)));
      }
      p.Forward();
      testing::ExpectWithinBound(p.y, y, "y");
      p.Backward();
      testing::ExpectWithinBound(p.dgate, dgate, "dgate");
      testing::ExpectWithinBound(p.dup, dup, "dup");
    }
  }
}

TEST(Swiglu, GradientsAreDerivatives) {
  GuardAllocator memory;
  const Problem p(3, 7, DType::kF64, memory);
  p.Backward();
  const auto f = [&] {
    p.Forward();
    return testing::Dot(p.dy, p.y);
  };
  for (const auto& [input, gradient] : {std::pair{&p.gate, &p.dgate}, std::pair{&p.up, &p.dup}}) {
    EXPECT_LT(testing::RelativeDifference(testing::ToDouble(*gradient), testing::CentralDifferences(*input, f)),
              testing::kCentralDifferenceTolerance);
  }
}

TEST(Swiglu, GradientsMayOverwriteInputs) {
  for (const DType dtype : testing::kFloatingTypes) {
    GuardAllocator memory;
    const Problem p(11, 113, dtype, memory);
    p.Backward();
    for (const bool over_dy : {true, false}) {
      const Tensor dy = testing::Clone(p.dy, memory);
      const Tensor gate = testing::Clone(p.gate, memory);
      const Tensor up = testing::Clone(p.up, memory);
      const Tensor dgate = over_dy ? dy : gate;
      SwigluBackward({.dy = dy, .gate = gate, .up = up, .dgate = dgate, .dup = up}, {});
      testing::ExpectSameBits(dgate, p.dgate, "dgate");
      testing::ExpectSameBits(up, p.dup, "dup");
    }
  }
}

TEST(Swiglu, ThreadsDoNotMatter) {
  GuardAllocator memory;
  for (const DType dtype : testing::kFloatingTypes) {
    testing::ExpectSameForAllThreadCounts([&](const Stream& stream) {
      const Problem p(61, 1023, dtype, memory);
      p.Forward(stream);
      p.Backward(stream);
      return std::vector<Tensor>{p.y, p.dgate, p.dup};
    });
  }
}

TEST(Swiglu, ExtremesStayFiniteAndNanPasses) {
  for (const DType dtype : testing::kFloatingTypes) {
    GuardAllocator memory;
    const Problem p(1, 40, dtype, memory);
    for (int64_t i = 0; i < 40; ++i) {
      testing::SetElement(p.gate, i, i % 2 == 0 ? -60.0 * static_cast<double>(i) : 60.0 * static_cast<double>(i));
    }
    testing::SetElement(p.up, 17, std::numeric_limits<double>::quiet_NaN());
    testing::SetElement(p.gate, 23, std::numeric_limits<double>::quiet_NaN());
    p.Forward();
    p.Backward();
    for (int64_t i = 0; i < 40; ++i) {
      EXPECT_EQ(std::isnan(testing::ElementAt(p.y, i)), i == 17 || i == 23) << i;
      EXPECT_EQ(std::isnan(testing::ElementAt(p.dgate, i)), i == 17 || i == 23) << i;
      EXPECT_EQ(std::isfinite(testing::ElementAt(p.dup, i)), i != 23) << i;
    }
  }
}

TEST(Swiglu, RefusesWrongArguments) {
  GuardAllocator memory;
  Problem p(3, 5, DType::kF32, memory);
  p.up = testing::Normal("up", {5, 3}, DType::kF32, memory);
  EXPECT_THROW(p.Forward(), Error);
  EXPECT_THROW(p.Backward(), Error);
}

}  // namespace
}  // namespace ksa
