// Where the samples of a source come from: token shards that are read, or a task that makes them. Both are functions of
// a sample's place in the source, cost the same for every place, and remember nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/files/streamed_hash.h"
#include "data/loader/batch.h"
#include "data/loader/data_config.h"
#include "data/loader/open_source.h"
#include "data/sampling/sample_order.h"
#include "data/tasks/task_stream.h"
#include "data/tokenizers/tokenizer.h"

namespace ksa {

// What samples are made in, of one call of Dataset: kept from sample to sample.
struct SampleScratch {
  std::vector<int32_t> window;
  std::vector<int64_t> starts;
};

class SampleSource {
 public:
  SampleSource() = default;
  SampleSource(const SampleSource&) = delete;
  SampleSource& operator=(const SampleSource&) = delete;
  virtual ~SampleSource() = default;

  // Makes the source's sample `at` the sample `index` of the batch, and adds to the batch's counts. Thread-safe.
  virtual void Fill(const SampleLocation& at, int64_t index, Batch& batch, SampleScratch& scratch) const = 0;

  // Adds to `hash` what the samples depend on.
  virtual void AddTo(StreamedHash& hash) const = 0;

  // The folder it reads; null: none.
  [[nodiscard]] virtual const ShardFolder* folder() const { return nullptr; }

  // Bytes that were read to check hashes so far.
  [[nodiscard]] virtual int64_t CheckedBytes() const { return 0; }
};

// `config` must outlive them.
[[nodiscard]] std::unique_ptr<SampleSource> MakeShardSource(ShardFolder folder, const DatasetConfig& config);

// `spec`, `name`, `use`: as TaskStream's, and its errors. `tokenizer` (null: none) must outlive the source.
[[nodiscard]] std::unique_ptr<SampleSource> MakeTaskSource(const TaskSpec& spec,
                                                           const std::string& name,
                                                           TaskUse use,
                                                           const DatasetConfig& config,
                                                           const Tokenizer* tokenizer);

}  // namespace ksa
