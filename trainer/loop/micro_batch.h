// A batch where the model runs, and slices of it as the model takes them.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "data/loader/batch.h"
#include "kernels/core/gpu.h"
#include "model/autograd/context.h"
#include "model/ksa/model.h"

namespace ksa {

struct MicroBatch {
  Tensor ids;      // [samples · T] int32
  Tensor targets;  // [samples · T] int32, < 0: none
  SummaryLayout layout;
};

// Copies batches to the device: one transfer each, out of pinned memory and queued on the stream, so that the host does
// not wait for it. On the CPU it is one copy, and a dry stream copies nothing.
class BatchUpload {
 public:
  // Slices of the batch before become invalid. `batch` need not outlive the call.
  void Load(const ExecContext& cx, const Batch& batch);

  // Samples [first, first + count) of the batch loaded last; shares its memory.
  [[nodiscard]] MicroBatch Slice(const ModelConfig& model, int32_t first, int32_t count) const;

  // Gives the batch's memory back, once its slices have died. The staging memory stays.
  void Release() { values_ = Tensor(); }

 private:
  using Parts = std::array<std::span<const int32_t>, 4>;

  void Stage(const Parts& parts, const Stream& stream);

  int32_t samples_ = 0;
  int32_t sequence_length_ = 0;
  int32_t chunks_ = 0;
  bool documents_ = false;
  Tensor values_;  // int32: ids [n, T], targets [n, T], then with documents first chunk [n, C], chunk tokens [n, C]
  std::unique_ptr<PinnedMemory> staging_;
  Event copied_;  // the staging memory is free again
};

}  // namespace ksa
