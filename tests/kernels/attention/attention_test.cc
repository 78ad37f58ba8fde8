// The attention kernels against the naive reference.
#include "kernels/attention/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "kernels/attention/attention_cpu_vector.h"
#include "kernels/attention/attention_reference.h"
#include "tests/kernels/attention/attention_case.h"

namespace ksa::testing {
namespace {

// Large enough for several key tiles, several tasks and (backward) several parts a head.
std::vector<AttentionCase> LargeCases() {
  std::vector<AttentionCase> cases(5);
  cases[0].layout = {.sequences = 1, .text_tokens = 1030, .chunk_size = 8, .summary_tokens = 1, .live_chunks = 120};
  cases[0].window = AttentionWindow::Ksa(8);
  cases[1] = cases[0];
  cases[1].window = AttentionWindow::Full();
  cases[2] = cases[0];
  cases[2].window = AttentionWindow::SlidingTokens(200);
  cases[2].layout.live_chunks = 0;
  cases[3].layout = {.sequences = 2, .text_tokens = 300, .chunk_size = 3, .summary_tokens = 2, .live_chunks = 99};
  cases[3].window = AttentionWindow::Ksa(0);
  cases[3].heads = 3;
  cases[4] = cases[0];
  cases[4].Pack([](int32_t i) { return (i + 1) * 37 % 301; });
  for (AttentionCase& c : cases) {
    c.dim = 2;
  }
  return cases;
}

// lse is compared where it is finite; -infinity must stand in the same places.
void ExpectSameLse(const TensorView& actual, const TensorView& expected) {
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

double Largest(const TensorView& x) {
  double largest = 0.0;
  for (const double value : ToDouble(x)) {
    largest = std::max(largest, std::abs(value));
  }
  return largest;
}

// Within 1e-12 of the largest magnitude expected, or of `magnitude`. NaN fails.
void ExpectClose(const TensorView& actual, const TensorView& expected, double magnitude, std::string_view what) {
  const double allowed = 1e-12 * std::max(Largest(expected), magnitude);
  for (int64_t i = 0; i < expected.size(); ++i) {
    ASSERT_LE(std::abs(ElementAt(actual, i) - ElementAt(expected, i)), allowed) << what << " " << i;
  }
}

void ExpectMatchesReference(const AttentionCase& c) {
  SCOPED_TRACE(c.Describe());
  GuardAllocator guarded;
  const AttentionTensors actual(c, DType::kF64, guarded);
  const AttentionTensors expected(actual, DType::kF64, guarded);
  actual.Run(c, {}, &guarded);
  AttentionReferenceForward(expected.Forward(c, nullptr));
  AttentionReferenceBackward(expected.Backward(c, nullptr));
  ExpectSameLse(actual.lse, expected.lse);
  // Where a query sees one key alone, dq and dk vanish and only rounding is left of them: what they are sums of counts
  // as their magnitude too.
  const double dscore = Largest(actual.dout) * Largest(actual.v);
  ExpectClose(actual.out, expected.out, 0.0, "out");
  ExpectClose(actual.dq, expected.dq, dscore * Largest(actual.k), "dq");
  ExpectClose(actual.dk, expected.dk, dscore * Largest(actual.q), "dk");
  ExpectClose(actual.dv, expected.dv, 0.0, "dv");
}

TEST(Attention, MatchesTheReferenceInDouble) {
  for (uint64_t i = 0; i < 400 && !::testing::Test::HasFailure(); ++i) {
    ExpectMatchesReference(MakeCase(i));
  }
}

TEST(Attention, MatchesTheReferenceWhereItTakesSeveralTilesAndParts) {
  for (const AttentionCase& c : LargeCases()) {
    ExpectMatchesReference(c);
  }
}

// Root mean square of the difference over all elements.
double Error(const Tensor& actual, const Tensor& exact) {
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
void ExpectNoLessExactThanNaive(const AttentionCase& c, DType dtype) {
  SCOPED_TRACE(c.Describe());
  GuardAllocator guarded;
  const AttentionTensors actual(c, dtype, guarded);
  const AttentionTensors naive(actual, dtype, guarded);
  const AttentionTensors exact(actual, DType::kF64, guarded);
  actual.Run(c, {}, &guarded);
  for (const AttentionTensors* tensors : {&naive, &exact}) {
    AttentionReferenceForward(tensors->Forward(c, nullptr));
    AttentionReferenceBackward(tensors->Backward(c, nullptr));
  }
  EXPECT_LE(Error(actual.out, exact.out), 2.0 * Error(naive.out, exact.out));
  EXPECT_LE(Error(actual.lse, exact.lse), 2.0 * Error(naive.lse, exact.lse));
  EXPECT_LE(Error(actual.dq, exact.dq), 2.0 * Error(naive.dq, exact.dq));
  EXPECT_LE(Error(actual.dk, exact.dk), 2.0 * Error(naive.dk, exact.dk));
  EXPECT_LE(Error(actual.dv, exact.dv), 2.0 * Error(naive.dv, exact.dv));
}

TEST(Attention, IsAsExactAsNaiveArithmeticInFloatAndBFloat16) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t dim : {8, 24, 64}) {
      for (const AttentionWindow& window : {AttentionWindow::Ksa(2),
                                            AttentionWindow::Full(),
                                            AttentionWindow::SlidingTokens(20),
                                            AttentionWindow::SlidingChunks(3)}) {
        AttentionCase c;
        c.layout = {.sequences = 1, .text_tokens = 113, .chunk_size = 8, .summary_tokens = 2, .live_chunks = 13};
        c.window = window;
        c.heads = 4;
        c.groups = 2;
        c.dim = dim;
        ExpectNoLessExactThanNaive(c, dtype);
      }
    }
  }
}

TEST(Attention, ExponentialIsExactToThreePartsInTenMillion) {
  using cpu_attention::Exp2;
  using Floats = cpu_attention::Vec<float>;
  const auto exp2 = [](float x) { return Exp2(cpu_attention::Broadcast(x))[0]; };
  for (int i = 0; i <= 200000; ++i) {
    const float x = 0.5F - static_cast<float>(i) * 6.27e-4F;
    const double exact = std::exp2(static_cast<double>(x));
    if (x >= -125.0F) {
      ASSERT_NEAR(exp2(x) / exact, 1.0, 3e-7) << x;
    } else {
      ASSERT_EQ(exp2(x), 0.0F) << x;
    }
  }
  EXPECT_EQ(exp2(0.0F), 1.0F);
  EXPECT_EQ(exp2(-std::numeric_limits<float>::infinity()), 0.0F);
  EXPECT_TRUE(std::isnan(exp2(std::numeric_limits<float>::quiet_NaN())));
  const Floats lanes = Exp2(Floats{0.0F, -1.0F, -2.0F, -3.0F});
  EXPECT_EQ(lanes[3], 0.125F);
}

}  // namespace
}  // namespace ksa::testing
