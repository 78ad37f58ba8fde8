// What a start has opened and decided, for those who train.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "data/loader/dataset.h"
#include "trainer/checkpoint/checked.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/config/config.h"
#include "trainer/loop/records.h"
#include "trainer/loop/update_runner.h"
#include "trainer/observe/logger.h"
#include "trainer/run/run_folder.h"
#include "trainer/step/runtime.h"
#include "trainer/step/training_state.h"

namespace ksa {

// What a start has opened and decided. All of it outlives the loop.
struct CommittedRun {
  const Config& config;
  Runtime& runtime;
  const Dataset& dataset;
  TrainingState& state;
  const RunFolder& folder;
  Logger& logger;
  RunRecords* records;  // rank 0
  CheckedCheckpoints& checked;
  std::optional<CheckpointOrigin> resumed_from;  // for manifests
  UpdateSpan span;
  std::string host;  // that this rank runs on
  // Bytes of host memory that this rank may take for a copy of its state (checkpoint.async).
  int64_t host_room = 0;
};

}  // namespace ksa
