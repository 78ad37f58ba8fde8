// One rank of a run on imaginary memory, among ranks that do not exist: the code of the run itself, its requests and
// its calls in their order. Needs no GPU, and no build with CUDA.
#pragma once

#include <cstdint>
#include <memory>

#include "model/ksa/timeline.h"
#include "model/ksa/work_log.h"
#include "trainer/config/config.h"
#include "trainer/loop/memory_plan.h"

namespace ksa {

struct ImaginaryRank {
  int ranks = 1;
  int rank = 0;
  // Of updates with many micro-batches three are run, for all between the first and the last are alike; memory is then
  // as good as exact, up to the rounding of one block. Else all are run.
  bool three_micro_batches = false;
  bool on_cpu = false;  // else on a GPU
};

// What it did and took.
struct ImaginaryRun {
  MeshShape mesh;
  int rank = 0;
  int replicas = 1;           // tensor ranks that share a key/value head
  int64_t micro_batches = 1;  // of an update
  MemoryPlan memory;
  std::unique_ptr<WorkLog> log;  // update 1

  [[nodiscard]] StepCounts Counts() const { return CountStep(*log, micro_batches); }

  [[nodiscard]] StepSeconds Seconds(const DeviceFigures& figures) const {
    return TimeStep(*log, micro_batches, RankTopology(mesh, figures.host_gpus, rank, replicas), figures);
  }
};

// `config` has a precision and a micro-batch size and has been checked for this number of ranks.
[[nodiscard]] ImaginaryRun Imagine(const Config& config, const ImaginaryRank& place = {});

}  // namespace ksa
