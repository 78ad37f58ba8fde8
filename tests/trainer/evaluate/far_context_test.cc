#include "trainer/evaluate/far_context.h"

#include <cmath>

#include <gtest/gtest.h>

namespace ksa {
namespace {

constexpr int32_t kLength = 10;

// Token t of sample i is 100·i + t; its target the next one.
void MakeNumbered(int64_t first, int64_t count, Batch& batch) {
  batch = Batch();
  batch.samples = static_cast<int32_t>(count);
  batch.sequence_length = kLength;
  for (int64_t i = first; i < first + count; ++i) {
    for (int32_t t = 0; t < kLength; ++t) {
      batch.inputs.push_back(static_cast<int32_t>(100 * i) + t);
      batch.targets.push_back(static_cast<int32_t>(100 * i) + t + 1);
    }
  }
  batch.target_count = count * kLength;
}

// A model whose loss is the number of tokens in sight that are not the target's sample's, divided by a hundred, plus a
// hundredth of the sample's number: what it adds can be counted.
void CountForeign(const Batch& batch, int64_t first, EvaluationSums& sums) {
  int64_t targets = 0;
  for (int32_t i = 0; i < batch.samples; ++i) {
    for (int32_t t = 0; t < kLength; ++t) {
      const int32_t target = batch.targets[static_cast<size_t>(i * kLength + t)];
      if (target == Batch::kNoTarget) {
        continue;
      }
      double loss = static_cast<double>(first + i) / 100;
      for (int32_t u = 0; u <= t; ++u) {
        loss += batch.inputs[static_cast<size_t>(i * kLength + u)] / 100 != target / 100 ? 0.01 : 0.0;
      }
      sums.AddTarget(first + i, t, loss);
      sums.loss += loss;
      ++targets;
    }
  }
  EXPECT_EQ(targets, batch.target_count);
}

TEST(FarContext, BeginningsAreAnotherSamplesAndTheEndIsMeasured) {
  for (const int32_t batch_size : {1, 2, 3, 8}) {
    const FarContextLoss far = MeasureFarContext(5, kLength, 5, batch_size, MakeNumbered, CountForeign);
    EXPECT_EQ(far.kept, 5);
    EXPECT_EQ(far.targets, 5 * 2);
    EXPECT_NEAR(far.loss, 0.02, 1e-12);           // the mean of the samples' numbers
    EXPECT_NEAR(far.loss_replaced, 0.07, 1e-12);  // and five foreign tokens
    EXPECT_NEAR(far.error.value(), 0.0, 1e-12);   // the same in every sample
  }
}

TEST(FarContext, TwoSamplesSwapTheirBeginnings) {
  std::vector<std::vector<int32_t>> seen;
  const auto keep = [&](const Batch& batch, int64_t, EvaluationSums& sums) {
    seen.push_back(batch.inputs);
    sums.AddTarget(0, kLength - 1, 1.0);
  };
  (void)MeasureFarContext(2, kLength, 2, 2, MakeNumbered, keep);
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_EQ(seen[0][0], 100);
  EXPECT_EQ(seen[0][7], 107);
  EXPECT_EQ(seen[0][8], 8);
  EXPECT_EQ(seen[0][10], 0);
  EXPECT_EQ(seen[0][18], 108);
}

// The last sample of a text is padded: its beginning is no text from elsewhere.
TEST(FarContext, PaddingIsNoBeginning) {
  const auto make = [](int64_t first, int64_t count, Batch& batch) {
    MakeNumbered(first, count, batch);
    for (int64_t i = first; i < first + count; ++i) {
      if (i == 2) {
        const auto at = (i - first) * kLength;
        std::fill(batch.inputs.begin() + at + 3, batch.inputs.begin() + at + kLength, 0);
        std::fill(batch.targets.begin() + at + 3, batch.targets.begin() + at + kLength, Batch::kNoTarget);
      }
    }
  };
  std::vector<int32_t> firsts;
  const auto keep = [&](const Batch& batch, int64_t first, EvaluationSums& sums) {
    firsts.push_back(batch.inputs[0]);
    CountForeign(batch, first, sums);
  };
  const FarContextLoss far = MeasureFarContext(3, kLength, 5, 1, make, keep);
  EXPECT_EQ(firsts, (std::vector<int32_t>{100, 0, 0, 100, 0, 200}));  // replaced and own, by sample
  EXPECT_EQ(far.targets, 2 * 2);                                      // the padded one has none at its end
  EXPECT_NEAR(far.loss_replaced - far.loss, 0.05, 1e-12);

  // Of two, the whole one finds no beginning, and does not count.
  const auto make_two = [&](int64_t first, int64_t count, Batch& batch) { make(first + 1, count, batch); };
  EXPECT_EQ(MeasureFarContext(2, kLength, 5, 2, make_two, CountForeign).targets, 0);
}

}  // namespace
}  // namespace ksa
