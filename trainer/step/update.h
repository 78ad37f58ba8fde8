// One training update: forward and backward of every micro-batch, then the optimizer.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "data/loader/batch.h"
#include "model/autograd/tape.h"
#include "model/ksa/model.h"
#include "trainer/optim/optimizer.h"
#include "trainer/step/micro_batch.h"
#include "trainer/step/runtime.h"

namespace ksa {

// The same on every rank.
struct UpdateOutcome {
  double loss = 0.0;       // mean over the targets of the global batch; 0 without targets
  double grad_norm = 0.0;  // global, before clipping
  bool finite = true;      // false: loss or norm was not, and nothing was applied
  bool applied = true;     // false: not finite, or the norm was above most_norm; weights and moments are as before
  double comm_ms = 0.0;
  std::vector<double> source_loss;  // by training source, mean over its targets; NaN without; see CountSources
};

class Updater {
 public:
  // All must outlive it. `micro_batch_size`: samples a forward pass.
  Updater(Runtime& runtime, KsaModel& model, Optimizer& optimizer, int32_t micro_batch_size, Recompute recompute);

  // From now on outcomes tell the loss of each of `sources` training sources. One source: they tell nothing, the
  // default.
  void CountSources(int64_t sources) { sources_ = sources; }

  // `batch`: this rank's samples of update `update` (from 1). Loss and gradients are sums over targets divided by the
  // number of targets of the whole global batch. An update whose gradient norm is above `most_norm` is not applied.
  UpdateOutcome Run(const Batch& batch,
                    int64_t update,
                    double lr,
                    double most_norm = std::numeric_limits<double>::infinity());

  // Forward, loss and backward alone, for benchmarks. Gradients are those of the mean over the batch's targets.
  void RunGradients(const Batch& batch);

 private:
  // `report`: the optimizer is told of the last micro-batch's progress.
  void AccumulateGradients(const Batch& batch, double mix, double grad_scale, bool report);

  [[nodiscard]] std::vector<double> LossBySource(const Batch& batch);

  // The losses of a micro-batch's targets, until the update's end, where the host waits anyway.
  struct RowLosses {
    Tensor losses;
    std::vector<int32_t> samples;  // of the batch, one a target
  };

  Runtime& runtime_;
  KsaModel& model_;
  Optimizer& optimizer_;
  int64_t sources_ = 1;
  std::vector<RowLosses> row_losses_;
  int32_t micro_batch_size_;
  Recompute recompute_;
  BatchUpload upload_;
  Tape tape_;
};

}  // namespace ksa
