// Arithmetic that carries a bound of the rounding error a kernel may make, so that tolerances follow from the
// computation instead of being chosen.
//
// A Bounded holds a value computed in long double and how far the same computation in a narrower type (unit roundoff
// `unit`) may be from it, to first order: a + b errs by err(a) + err(b) + unit |a + b|, and so on. Sums may be taken in
// any order.
#pragma once

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/core/tensor.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {

struct Bounded {
  long double value = 0.0L;
  long double error = 0.0L;
  long double unit = 0.0L;

  Bounded() = default;

  Bounded(long double v) : value(v) {}  // NOLINT(google-explicit-constructor): an exact constant

  Bounded(long double v, long double e, long double u) : value(v), error(e), unit(u) {}

  friend Bounded operator+(const Bounded& a, const Bounded& b) {
    return Round(a.value + b.value, a.error + b.error, a, b);
  }

  friend Bounded operator-(const Bounded& a, const Bounded& b) {
    return Round(a.value - b.value, a.error + b.error, a, b);
  }

  friend Bounded operator*(const Bounded& a, const Bounded& b) {
    return Round(a.value * b.value, std::abs(a.value) * b.error + std::abs(b.value) * a.error, a, b);
  }

  friend Bounded operator/(const Bounded& a, const Bounded& b) {
    const long double q = a.value / b.value;
    return Round(q, (a.error + std::abs(q) * b.error) / std::abs(b.value), a, b);
  }

  static Bounded Round(long double v, long double e, const Bounded& a, const Bounded& b) {
    const long double u = std::max(a.unit, b.unit);
    return {v, e + u * std::abs(v) + Smallest(u), u};
  }

  // The smallest number above 0 of a type with this unit roundoff: what underflow may lose.
  static long double Smallest(long double u) { return u == 0.0L ? 0.0L : (u > 0x1p-30L ? 0x1p-149L : 0x1p-1074L); }
};

using BoundedValues = std::vector<Bounded>;

// A constant that the kernel holds in the accumulation type of `dtype`.
[[nodiscard]] inline Bounded Constant(long double value, DType dtype) {
  const double unit = UnitRoundoff(AccumulationType(dtype));
  return {value, unit * std::abs(value), unit};
}

// The elements of a tensor, which are exact, for arithmetic in its accumulation type.
[[nodiscard]] inline BoundedValues Exact(const TensorView& x) {
  BoundedValues values;
  for (int64_t i = 0; i < x.size(); ++i) {
    values.emplace_back(ElementAt(x, i), 0.0L, UnitRoundoff(AccumulationType(x.dtype)));
  }
  return values;
}

[[nodiscard]] inline Bounded Sqrt(const Bounded& x) {
  const long double root = std::sqrt(x.value);
  return {root, x.error / (2.0L * root) + x.unit * root, x.unit};
}

// The promise of kernels/core/vector_math.h for float; one unit in the last place for double.
[[nodiscard]] inline Bounded Exponential(const Bounded& x) {
  const long double y = std::exp(x.value);
  const long double own = x.unit > 0x1p-30L ? 1e-7L : 2.0L * x.unit;
  return {y, y * (x.error + own) + Bounded::Smallest(x.unit), x.unit};
}

[[nodiscard]] inline Bounded Logarithm(const Bounded& x) {
  const long double y = std::log(x.value);
  return {y, x.error / x.value + 2.0L * x.unit * std::abs(y), x.unit};
}

// A sum in any order: each of n - 1 additions errs by at most one unit of the sum of magnitudes.
class Sum {
 public:
  void Add(const Bounded& x) {
    value_ += x.value;
    error_ += x.error;
    magnitude_ += std::abs(x.value);
    unit_ = std::max(unit_, x.unit);
    ++count_;
  }

  [[nodiscard]] Bounded Result() const {
    return {value_, error_ + static_cast<long double>(count_) * unit_ * magnitude_, unit_};
  }

 private:
  long double value_ = 0.0L;
  long double error_ = 0.0L;
  long double magnitude_ = 0.0L;
  long double unit_ = 0.0L;
  int64_t count_ = 0;
};

// Every element lies within twice its bound (a kernel may associate products in another way) and one rounding to its
// own type. NaN fails.
inline void ExpectWithinBound(const TensorView& actual, const BoundedValues& expected, std::string_view what) {
  ASSERT_EQ(static_cast<size_t>(actual.size()), expected.size()) << what;
  int failures = 0;
  for (int64_t i = 0; i < actual.size() && failures < 5; ++i) {
    const Bounded& want = expected[static_cast<size_t>(i)];
    const long double limit =
        2.0L * want.error + UnitRoundoff(actual.dtype) * std::abs(want.value) + Bounded::Smallest(want.unit);
    const long double difference = std::abs(static_cast<long double>(ElementAt(actual, i)) - want.value);
    if (!(difference <= limit)) {
      ++failures;
      ADD_FAILURE() << what << "[" << i << "] of " << NameOf(actual.dtype) << ": got " << ElementAt(actual, i)
                    << ", expected " << want.value << ", which is off by " << difference << ", allowed " << limit;
    }
  }
}

}  // namespace ksa::testing
