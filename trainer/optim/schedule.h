// The learning rate: a pure function of the update number, so that a resume has nothing to restore.
#pragma once

#include <cstdint>

#include "trainer/config/config.h"

namespace ksa {

// Of update u = 1 .. max_steps. lr·u/warmup_steps while u <= warmup_steps, then
//   wsd       lr; over the last decay_steps updates falling to min_lr at u = max_steps: with t the part of them that is
//             done, linearly (1 - t) or as 1 - sqrt(t) (arXiv 2405.18392)
//   cosine    min_lr + (lr - min_lr)·(1 + cos(pi·(u - warmup)/(max_steps - warmup)))/2
//   constant  lr
[[nodiscard]] double LearningRate(const OptimizerConfig& optimizer,
                                  const ScheduleConfig& schedule,
                                  int64_t max_steps,
                                  int64_t update);

}  // namespace ksa
