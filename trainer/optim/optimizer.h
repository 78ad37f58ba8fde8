// One update of the weights: gradients summed over ranks, clipped by their global norm, AdamW, weights gathered.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <utility>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/gpu.h"
#include "model/autograd/parameter.h"
#include "parallel/mesh/process_mesh.h"
#include "trainer/config/config.h"
#include "trainer/optim/gradient_reducer.h"
#include "trainer/optim/stall_timer.h"

namespace ksa {

// What an update did, the same on every rank.
struct UpdateResult {
  double loss_sum = 0.0;   // over the targets of the global batch
  double grad_norm = 0.0;  // global, before clipping
  bool applied = true;     // false: loss or norm was not finite, or the norm too large, and nothing changed
  double comm_ms = 0.0;    // that this update's end waited for sums and weights of other ranks
};

class Optimizer {
 public:
  // `store` and `mesh` must outlive it. `allocator` gives a little memory where the store lies and `stream`, that of
  // all updates, computes.
  Optimizer(const OptimizerConfig& config,
            ParameterStore& store,
            const ProcessMesh& mesh,
            Allocator& allocator,
            const Stream& stream);

  // Call before the first micro-batch.
  void BeginUpdate(const Stream& stream);

  // [1] fp64, where the store lies: this rank's loss sum, which micro-batches add to.
  [[nodiscard]] Tensor loss_sum() const { return stats_.Rows(0, 1); }

  // Whether sums over ranks can start before backward is done: then OnGradients should be told of the last
  // micro-batch's progress (KsaModel::Input::on_gradients). It need not be; the results have the same bits.
  [[nodiscard]] bool takes_progress() const { return mesh_.state_group().size() > 1; }

  void OnGradients(int32_t layer, const Stream& stream) { reducer_.OnGradients(layer, stream); }

  // Called in every Step when what follows on the stream changes weights and moments; empty: nobody is told.
  void SetBeforeChange(std::function<void()> before_change) { before_change_ = std::move(before_change); }

  // Call after the last micro-batch's backward. store.grads() hold this rank's part of the gradient sum. `update`
  // counts from 1. Everything is queued on the stream, clipping and the decision to apply included; the read-back of
  // loss and norm at the end is the one time in an update that the host waits for the device. An update whose norm is
  // above `most_norm` is not applied (SkipRule).
  UpdateResult Step(double lr,
                    int64_t update,
                    const Stream& stream,
                    double most_norm = std::numeric_limits<double>::infinity());

 private:
  void SumNorm(const Stream& stream);
  void ApplyAdamW(double lr, int64_t update, const Stream& stream);
  void UpdateShard(const FlatRange& shard, double lr, int64_t update, const Stream& stream);
  void UpdateRange(const FlatRange& range, double weight_decay, double lr, int64_t update, const Stream& stream);

  OptimizerConfig config_;
  ParameterStore& store_;
  const ProcessMesh& mesh_;
  Allocator& allocator_;
  Tensor stats_;  // [2] fp64: loss sum, sum of squares of the gradients
  Tensor scale_;  // [1] fp64: the clipping factor, NaN when the update must not be applied
  PinnedMemory read_back_;
  StallTimer stalls_;
  GradientReducer reducer_;
  std::function<void()> before_change_;
};

}  // namespace ksa
