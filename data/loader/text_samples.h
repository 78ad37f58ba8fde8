// A text as samples, without shards: what evaluation reads of a file.
#pragma once

#include <cstdint>
#include <vector>

#include "data/loader/batch.h"
#include "data/loader/data_config.h"
#include "data/sampling/even_samples.h"

namespace ksa {

class TextSamples {
 public:
  // `tokens`: one document with its end, at least two of them, each below vocab_size. Read of `config`: document_mask,
  // sequence_length T, chunk_size.
  TextSamples(std::vector<int32_t> tokens, const DatasetConfig& config);

  // Sample j is the window of T+1 tokens from j·T on, as of a shard with this one document; the last one may be
  // shorter, so that every token but the first is a target of one sample. Its other rows have no target.
  [[nodiscard]] int64_t samples() const;

  // Samples [first, first + count) of those that `taken` takes, taken.there being all. Reuses the batch's memory.
  void MakeBatch(const EvenSamples& taken, int64_t first, int64_t count, Batch& batch) const;

 private:
  std::vector<int32_t> tokens_;
  DatasetConfig config_;
};

}  // namespace ksa
