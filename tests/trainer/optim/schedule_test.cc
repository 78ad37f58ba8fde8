// The learning rate against the contract's formulas, by hand. (The linear decay is pinned by golden/train_wsd.h5 too.)
#include "trainer/optim/schedule.h"

#include <cmath>

#include <gtest/gtest.h>

namespace ksa {
namespace {

TEST(LearningRateTest, DecayLinearAndSqrt) {
  const OptimizerConfig optimizer = {.lr = 1.0, .min_lr = 0.1};
  ScheduleConfig schedule = {.kind = ScheduleKind::kWsd, .warmup_steps = 10, .decay_steps = 16};
  const auto at = [&](int64_t update) { return LearningRate(optimizer, schedule, 100, update); };
  for (const DecayShape shape : {DecayShape::kLinear, DecayShape::kSqrt}) {
    schedule.decay = shape;
    EXPECT_EQ(at(5), 0.5);
    EXPECT_EQ(at(10), 1.0);
    EXPECT_EQ(at(84), 1.0);
    EXPECT_NEAR(at(100), 0.1, 1e-15);
  }
  // A quarter of the decay is done after 4 of 16 updates: sqrt gives half of the way.
  EXPECT_NEAR(at(88), 1.0 - 0.9 * 0.5, 1e-15);
  EXPECT_NEAR(at(85), 1.0 - 0.9 * 0.25, 1e-15);
  schedule.decay = DecayShape::kLinear;
  EXPECT_NEAR(at(88), 1.0 - 0.9 * 0.25, 1e-15);
}

}  // namespace
}  // namespace ksa
