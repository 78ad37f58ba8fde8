#include "trainer/optim/skip_rule.h"

#include <cmath>

#include <gtest/gtest.h>

namespace ksa {
namespace {

TrainingConfig Rules(OnNonfinite on_nonfinite, double factor, int64_t most) {
  TrainingConfig config;
  config.on_nonfinite = on_nonfinite;
  config.spike_factor = factor;
  config.max_skips = most;
  return config;
}

TEST(SkipRule, OffItRemembersNothing) {
  SkipRule rule(TrainingConfig{}, {});
  for (int i = 0; i < 100; ++i) {
    rule.Applied(1.0);
  }
  EXPECT_EQ(rule.most_norm(), HUGE_VAL);
  EXPECT_EQ(rule.state(), SkipState{});
  EXPECT_FALSE(rule.Skipped(false)) << "abort";
}

TEST(SkipRule, AMultipleOfTheMedianOfTheLast64) {
  SkipRule rule(Rules(OnNonfinite::kAbort, 3.0, 10), {});
  for (int i = 1; i <= 7; ++i) {
    rule.Applied(i);
    EXPECT_EQ(rule.most_norm(), HUGE_VAL) << i << " norms say nothing";
  }
  rule.Applied(8);
  EXPECT_EQ(rule.most_norm(), 3.0 * 4.5) << "1 to 8";
  rule.Applied(1000);
  EXPECT_EQ(rule.most_norm(), 3.0 * 5) << "1 to 8 and 1000: an outlier moves it by one";
  for (int i = 0; i < 64; ++i) {
    rule.Applied(2.0);
  }
  EXPECT_EQ(rule.most_norm(), 6.0);
  for (int i = 0; i < 32; ++i) {
    rule.Applied(4.0);
  }
  EXPECT_EQ(rule.most_norm(), 9.0) << "half of each";
  rule.Applied(4.0);
  EXPECT_EQ(rule.most_norm(), 12.0);
  EXPECT_EQ(rule.state().norms.size(), 64U);
}

TEST(SkipRule, UpdatesWithoutTargetsMakeNoSpikes) {
  SkipRule rule(Rules(OnNonfinite::kAbort, 2.0, 10), {});
  for (int i = 0; i < 20; ++i) {
    rule.Applied(0.0);
  }
  EXPECT_EQ(rule.most_norm(), HUGE_VAL);
}

TEST(SkipRule, CountsInARow) {
  SkipRule rule(Rules(OnNonfinite::kSkip, 0.0, 2), {});
  EXPECT_TRUE(rule.Skipped(false));
  EXPECT_TRUE(rule.Skipped(false));
  rule.Applied(1.0);
  EXPECT_TRUE(rule.Skipped(true));
  EXPECT_TRUE(rule.Skipped(false));
  EXPECT_EQ(rule.in_a_row(), 2);
  EXPECT_FALSE(rule.Skipped(true));
}

TEST(SkipRule, ASpikeIsSkippedAndWhatIsNotFiniteIsNot) {
  SkipRule rule(Rules(OnNonfinite::kAbort, 2.0, 10), {});
  EXPECT_TRUE(rule.Skipped(true));
  EXPECT_FALSE(rule.Skipped(false));
}

// Whatever is cut in two goes on as if it had not been: what is skipped is no part of the median.
TEST(SkipRule, GoesOnFromItsState) {
  const TrainingConfig config = Rules(OnNonfinite::kSkip, 1.5, 5);
  SkipRule whole(config, {});
  for (int cut = 0; cut < 150; ++cut) {
    SkipRule resumed(config, whole.state());
    EXPECT_EQ(resumed.most_norm(), whole.most_norm()) << cut;
    EXPECT_EQ(resumed.in_a_row(), whole.in_a_row()) << cut;
    const double norm = 1.0 + std::sin(cut * 0.7);
    if (norm > whole.most_norm()) {
      EXPECT_EQ(resumed.Skipped(true), whole.Skipped(true));
    } else {
      resumed.Applied(norm);
      whole.Applied(norm);
    }
    EXPECT_EQ(resumed.state(), whole.state());
  }
  EXPECT_EQ(whole.state().norms.size(), SkipRule::kNorms);
}

}  // namespace
}  // namespace ksa
