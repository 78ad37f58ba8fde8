// A batch where the model runs, and slices of it as the model takes them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "data/loader/batch.h"
#include "kernels/core/gpu.h"
#include "model/autograd/context.h"
#include "model/ksa/model.h"

namespace ksa {

// T_l: the text of a sequence that is here, all of it but where context ranks share sequences.
struct MicroBatch {
  Tensor ids;                 // [samples · T_l] int32
  KsaModel::Targets targets;  // of the rows that have one; of all rows where all of the batch have one
  SummaryLayout layout;
  // [targets] the rows that have one, on the host, rising: counted in the batch, so from targets.first_row on.
  std::span<const int32_t> target_rows;
};

// Copies batches to the device: one transfer each, out of pinned memory and queued on the stream, so that the host does
// not wait for it. On the CPU it is one copy, and a dry stream copies nothing.
class BatchUpload {
 public:
  // What this rank runs of the batch: of every sample its part of the text, and the documents of the whole. Slices of
  // the batch before become invalid. `batch` need not outlive the call. Rows without a target are left out of targets.
  void Load(const ExecContext& cx, const ModelConfig& model, const Batch& batch);

  // Samples [first, first + count) of the batch loaded last; shares its memory.
  [[nodiscard]] MicroBatch Slice(int32_t first, int32_t count) const;

  // Gives the batch's memory back, once its slices have died. The staging memory stays.
  void Release() { values_ = Tensor(); }

 private:
  using Parts = std::vector<std::span<const int32_t>>;

  void FindTargets(const Batch& batch);

  // Rows are named where some have no target, and always with documents, so that memory is the same in every update.
  [[nodiscard]] bool SelectsRows() const {
    return documents_ || static_cast<int64_t>(target_rows_.size()) < local_.text_rows();
  }

  void Stage(const Parts& parts, const Stream& stream);

  SummaryLayout whole_;  // of the sequences of the batch, without its documents
  SummaryLayout local_;  // the part that is here
  int context_ranks_ = 1;
  int context_rank_ = 0;
  bool documents_ = false;
  std::vector<int32_t> target_rows_;   // [m] of the rows [n · T_l], those that have a target
  std::vector<int32_t> target_ids_;    // [m]
  std::vector<int64_t> first_target_;  // [n + 1] of a sample, among them
  // int32: ids [n, T_l]; with documents first chunk [n, C], chunk tokens [n, C]; the m targets; where some rows have
  // none the numbers of the m rows. Room for m = n · T_l.
  Tensor values_;
  // On a dry stream the documents lie here, so that counts of operations can read them: first chunks, chunk tokens.
  std::vector<int32_t> dry_documents_;
  std::unique_ptr<PinnedMemory> staging_;
  Event copied_;  // the staging memory is free again
};

}  // namespace ksa
