// What the results of attention are compared with, for the tests of this folder.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>

#include "tests/kernels/attention/attention_case.h"
#include "tests/kernels/attention/attention_reference.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {

inline void RunReference(const AttentionCase& c, const AttentionTensors& tensors) {
  AttentionReferenceForward(tensors.Forward(c, nullptr));
  AttentionReferenceBackward(tensors.Backward(c, nullptr));
}

// lse is compared where it is finite; -infinity must stand in the same places.
inline void ExpectSameLse(const TensorView& actual, const TensorView& expected) {
  for (int64_t i = 0; i < expected.size(); ++i) {
    const double want = ElementAt(expected, i);
    const double got = ElementAt(actual, i);
    if (std::isinf(want)) {
      EXPECT_EQ(got, want) << "lse " << i;
    } else {
      EXPECT_NEAR(got, want, 1e-12 * std::max(1.0, std::abs(want))) << "lse " << i;
    }
  }
}

inline double Largest(const TensorView& x) {
  double largest = 0.0;
  for (const double value : ToDouble(x)) {
    largest = std::max(largest, std::abs(value));
  }
  return largest;
}

// Within 1e-12 of the largest magnitude expected, or of `magnitude`. NaN fails.
inline void ExpectClose(const TensorView& actual, const TensorView& expected, double magnitude, std::string_view what) {
  const double allowed = 1e-12 * std::max(Largest(expected), magnitude);
  for (int64_t i = 0; i < expected.size(); ++i) {
    ASSERT_LE(std::abs(ElementAt(actual, i) - ElementAt(expected, i)), allowed) << what << " " << i;
  }
}

// Of fp64 tensors.
inline void ExpectSameInDouble(const AttentionTensors& actual, const AttentionTensors& expected) {
  ExpectSameLse(actual.lse, expected.lse);
  // Where a query sees one key alone, dq and dk vanish and only rounding is left of them: what they are sums of counts
  // as their magnitude too.
  const double dscore = Largest(actual.dout) * Largest(actual.v);
  ExpectClose(actual.out, expected.out, 0.0, "out");
  ExpectClose(actual.dq, expected.dq, dscore * Largest(actual.k), "dq");
  ExpectClose(actual.dk, expected.dk, dscore * Largest(actual.q), "dk");
  ExpectClose(actual.dv, expected.dv, 0.0, "dv");
}

// Root mean square of the difference over all elements.
inline double RmsDifference(const Tensor& actual, const Tensor& exact) {
  double sum = 0.0;
  for (int64_t i = 0; i < exact.size(); ++i) {
    const double difference = ElementAt(actual, i) - ElementAt(exact, i);
    sum += difference * difference;
  }
  return std::sqrt(sum / static_cast<double>(std::max<int64_t>(1, exact.size())));
}

// The error against exact arithmetic on the same inputs is at most twice that of the naive loops in the type itself.
// Both are sums of thousands of roundings in an order of their own, and root mean squares over thousands of elements:
// what a different order does to them is far below a factor of 2.
inline void ExpectNoLessExact(const AttentionTensors& actual,
                              const AttentionTensors& naive,
                              const AttentionTensors& exact) {
  EXPECT_LE(RmsDifference(actual.out, exact.out), 2.0 * RmsDifference(naive.out, exact.out));
  EXPECT_LE(RmsDifference(actual.lse, exact.lse), 2.0 * RmsDifference(naive.lse, exact.lse));
  EXPECT_LE(RmsDifference(actual.dq, exact.dq), 2.0 * RmsDifference(naive.dq, exact.dq));
  EXPECT_LE(RmsDifference(actual.dk, exact.dk), 2.0 * RmsDifference(naive.dk, exact.dk));
  EXPECT_LE(RmsDifference(actual.dv, exact.dv), 2.0 * RmsDifference(naive.dv, exact.dv));
}

}  // namespace ksa::testing
