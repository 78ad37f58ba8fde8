// Gathers what a run says at its end: from its last start, its metrics and its data.
#pragma once

#include <cstdint>

#include "data/loader/dataset.h"
#include "trainer/config/config.h"
#include "trainer/loop/end_summary.h"
#include "trainer/loop/train_loop.h"
#include "trainer/observe/invocation.h"
#include "trainer/run/run_folder.h"

namespace ksa {

struct SummaryInput {
  const Config& config;
  const Dataset& dataset;
  const Invocation& invocation;
  const RunPaths& paths;
  RunFigures figures;   // of this start, or else the checkpoint that it began from
  int64_t updates = 0;  // that are done
  bool stopped = false;
  int ranks = 1;
};

// On rank 0. Error(kMissingInput), kIo, kBadData: metrics or validation data that cannot be read.
[[nodiscard]] RunSummary SummarizeRun(const SummaryInput& input);

}  // namespace ksa
