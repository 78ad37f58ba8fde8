// How a window of raw tokens becomes the rows of one sample of a batch.
#pragma once

#include <cstdint>
#include <span>

#include "data/loader/batch.h"
#include "data/loader/data_config.h"
#include "data/sampling/document_rows.h"

namespace ksa {

// Gives the batch's arrays their sizes, for `count` samples from number `first` on, and sets its counts to 0; memory is
// kept from call to call. What the arrays hold is open.
void ResizeBatch(int64_t first, int64_t count, const DatasetConfig& config, Batch& batch);

// Fills the rows of sample `index` of the batch. window: its T+1 raw tokens; `starts`: positions in (0, T] of it at
// which a document starts, rising, read under document_mask alone. Adds to none of the batch's counts.
FillResult FillRows(std::span<const int32_t> window,
                    std::span<const int64_t> starts,
                    const DatasetConfig& config,
                    int64_t index,
                    Batch& batch);

// The ids [T] and the targets [T] of sample `index`.
[[nodiscard]] std::span<int32_t> InputsOf(Batch& batch, int64_t index);
[[nodiscard]] std::span<int32_t> TargetsOf(Batch& batch, int64_t index);

// Sample `index` becomes one document of T tokens 0 without targets, which a task then writes.
void FillOneDocument(const DatasetConfig& config, int64_t index, Batch& batch);

}  // namespace ksa
