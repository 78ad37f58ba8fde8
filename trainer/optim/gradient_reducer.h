// Sums gradients over the ranks that hold the same shards of parameters, a bucket at a time, as soon as backward is
// done with the bucket's parameters, so that the sums travel while backward goes on.
//
// When a gradient is complete follows from the tape's order, not from counting writes: KsaModel says which layers
// backward is done with, and every parameter knows the first layer that uses it. All ranks run the same model, so they
// start the same buckets in the same order, and at the same places between the collectives of other groups. Buckets
// that tensor ranks have to sum first, norms mostly, are small and wait for the end.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/device.h"
#include "model/autograd/parameter.h"
#include "parallel/mesh/process_mesh.h"
#include "trainer/optim/stall_timer.h"

namespace ksa {

class GradientReducer {
 public:
  // All must outlive it.
  GradientReducer(ParameterStore& store, const ProcessMesh& mesh, StallTimer& stalls);

  // Before the first micro-batch of an update.
  void Begin();

  // In the last micro-batch's backward: gradients of parameters whose first_layer is `layer` or later are complete.
  // Another one afterwards is an Error(kInternal) where it is written.
  void OnGradients(int32_t layer, const Stream& stream);

  // After the last micro-batch: all gradients are complete, those that nothing wrote are zero. Later work of the stream
  // sees the sums: under ZeRO-1 of this rank's parts of the buckets, else of all.
  void Finish(const Stream& stream);

 private:
  struct Pending {
    const Bucket* bucket = nullptr;
    std::vector<Parameter*> parameters;
    int32_t first_layer = INT32_MAX;  // of its parameters
    bool started = false;
  };

  void Start(Pending& pending, const Stream& stream);
  void SumOverTensorRanks(const Pending& pending, const Stream& stream);

  ParameterStore& store_;
  const ProcessMesh& mesh_;
  StallTimer& stalls_;
  std::vector<Pending> buckets_;  // as the store's
};

}  // namespace ksa
