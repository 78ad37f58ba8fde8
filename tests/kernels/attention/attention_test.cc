// The attention kernels against the naive reference.
#include "kernels/attention/attention.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/attention/cpu/vector.h"
#include "tests/kernels/attention/attention_case.h"
#include "tests/kernels/attention/attention_compare.h"

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

void ExpectMatchesReference(const AttentionCase& c) {
  SCOPED_TRACE(c.Describe());
  GuardAllocator guarded;
  const AttentionTensors actual(c, DType::kF64, guarded);
  const AttentionTensors expected(actual, DType::kF64, guarded);
  actual.Run(c, {}, &guarded);
  RunReference(c, expected);
  ExpectSameInDouble(actual, expected);
}

TEST(Attention, MatchesTheReferenceInDouble) {
  for (uint64_t i = 0; i < 400 && !::testing::Test::HasFailure(); ++i) {
    ExpectMatchesReference(MakeCpuCase(i));
  }
}

TEST(Attention, MatchesTheReferenceWhereItTakesSeveralTilesAndParts) {
  for (const AttentionCase& c : LargeCases()) {
    ExpectMatchesReference(c);
    AttentionCase other = c;
    other.value_dim = 5;
    other.scale = 0.7;
    ExpectMatchesReference(other);
  }
}

void ExpectNoLessExactThanNaive(const AttentionCase& c, DType dtype) {
  SCOPED_TRACE(c.Describe());
  GuardAllocator guarded;
  const AttentionTensors actual(c, dtype, guarded);
  const AttentionTensors naive(actual, dtype, guarded);
  const AttentionTensors exact(actual, DType::kF64, guarded);
  actual.Run(c, {}, &guarded);
  RunReference(c, naive);
  RunReference(c, exact);
  ExpectNoLessExact(actual, naive, exact);
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
