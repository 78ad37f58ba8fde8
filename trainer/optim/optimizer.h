// One update of the weights: gradients summed over data ranks, clipped by their global norm, AdamW, weights gathered.
#pragma once

#include <cstdint>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "model/autograd/parameter.h"
#include "parallel/comm/communicator.h"
#include "trainer/config/config.h"

namespace ksa {

// What an update did, the same on every rank.
struct UpdateResult {
  double grad_norm = 0.0;  // global, before clipping
  bool applied = true;     // false: the norm was not finite, and nothing changed
  double comm_ms = 0.0;    // spent in collectives
};

class Optimizer {
 public:
  // `store` and `data_group` must outlive it. `allocator` gives a little scratch.
  Optimizer(const OptimizerConfig& config, ParameterStore& store, Communicator& data_group, Allocator& allocator);

  // Call after the last micro-batch's backward. store.grads() hold this rank's part of the gradient sum. `update`
  // counts from 1.
  UpdateResult Step(double lr, int64_t update, const Stream& stream);

 private:
  void ReduceGradients();
  [[nodiscard]] double SquaredNorm(const Stream& stream);
  void ApplyAdamW(double lr, int64_t update, double grad_scale, const Stream& stream);

  OptimizerConfig config_;
  ParameterStore& store_;
  Communicator& group_;
  Tensor partial_;  // [1] fp64
};

}  // namespace ksa
