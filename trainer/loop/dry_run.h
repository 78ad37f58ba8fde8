// `ksa train --dry-run`: a few updates in memory, and from them what the run will take. Nothing is written.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/loader/dataset.h"
#include "trainer/config/config.h"
#include "trainer/loop/update_runner.h"
#include "trainer/observe/logger.h"
#include "trainer/step/runtime.h"
#include "trainer/step/training_state.h"

namespace ksa {

// Updates that a dry run times, unless fewer are left. A trace, which costs time, is made of one more.
inline constexpr int64_t kDryUpdates = 3;

// What was measured, and how much of it the run consists of.
struct DryRunFigures {
  std::vector<double> step_ms;  // of each; the first also loads code and takes memory
  int64_t tokens_an_update = 0;
  int64_t updates = 0;                       // that the run still has to make
  int64_t validations = 0;                   // among them
  std::optional<double> validation_seconds;  // of one, over all sources and tasks
  int64_t checkpoints = 0;
  int64_t checkpoint_bytes = 0;  // of one
  int64_t memory = 0;            // bytes, of the rank that took the most
  int64_t memory_total = 0;      // bytes of its device or host
};

// The estimate for a person. The first update is left out where there are others.
[[nodiscard]] std::vector<std::string> RenderDryRun(const DryRunFigures& figures);

// Makes the updates after span.done, traces the one that is asked for, times a part of a validation and of tasks, and
// logs the estimate. Every rank calls it. Errors as UpdateRunner::Next.
void DryRun(const Config& config,
            Runtime& runtime,
            const Dataset& dataset,
            TrainingState& state,
            Logger& logger,
            const UpdateSpan& span,
            const std::string& host);

}  // namespace ksa
