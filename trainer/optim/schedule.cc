#include "trainer/optim/schedule.h"

#include <cmath>
#include <numbers>

namespace ksa {

double LearningRate(const OptimizerConfig& optimizer,
                    const ScheduleConfig& schedule,
                    int64_t max_steps,
                    int64_t update) {
  const double lr = optimizer.lr;
  const double min_lr = optimizer.min_lr;
  if (update <= schedule.warmup_steps) {
    return lr * static_cast<double>(update) / static_cast<double>(schedule.warmup_steps);
  }
  switch (schedule.kind) {
    case ScheduleKind::kConstant:
      return lr;
    case ScheduleKind::kCosine: {
      const double done =
          static_cast<double>(update - schedule.warmup_steps) / static_cast<double>(max_steps - schedule.warmup_steps);
      return min_lr + (lr - min_lr) * (1.0 + std::cos(std::numbers::pi * done)) / 2.0;
    }
    case ScheduleKind::kWsd: {
      const int64_t decayed = update - (max_steps - schedule.decay_steps);
      if (decayed <= 0) {
        return lr;
      }
      if (schedule.decay == DecayShape::kSqrt) {
        return lr + (min_lr - lr) * std::sqrt(static_cast<double>(decayed) / static_cast<double>(schedule.decay_steps));
      }
      return lr + (min_lr - lr) * static_cast<double>(decayed) / static_cast<double>(schedule.decay_steps);
    }
  }
  return lr;
}

}  // namespace ksa
