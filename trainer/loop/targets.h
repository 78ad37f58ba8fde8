// How many rows of a sample have a target: the others reach neither the head nor the cross-entropy.
#pragma once

#include <cstdint>

#include "trainer/config/config.h"

namespace ksa {

// Most targets of a training sample, T where shards are read, and in benchmarks, which read nothing.
[[nodiscard]] int64_t MostTrainingTargets(const Config& config);

// Most targets of a sample that is evaluated: of data.validation and evaluation.tasks.
[[nodiscard]] int64_t MostEvaluationTargets(const Config& config);

// Targets of a training sample in the mean over the sources, each counted with most that one of its samples has.
[[nodiscard]] double MeanTargets(const Config& config);

// Whether a training batch can hold rows without a target; then the rows that have one are gathered.
[[nodiscard]] bool TrainingLacksTargets(const Config& config);
[[nodiscard]] bool EvaluationLacksTargets(const Config& config);

}  // namespace ksa
