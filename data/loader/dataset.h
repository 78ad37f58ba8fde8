// The data of a run: its shard folders, opened and checked, its tasks, and any range of its samples as a batch.
//
// Which tokens sample i holds is a pure function of (seed, i): data/sampling/sample_order.h. Nothing is stored, so a
// run starts at any sample at once.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/loader/batch.h"
#include "data/loader/data_config.h"
#include "data/sampling/even_samples.h"
#include "data/sampling/sample_order.h"

namespace ksa {

// What is known of a source without reading its tokens.
struct SourceInfo {
  std::string name;
  std::string path;
  int share = 0;        // of 1024 samples of the run; 0 for a validation source
  int64_t samples = 0;  // of sequence_length tokens: an epoch of the source; kEndless for a task
  int64_t tokens = 0;   // raw tokens in its shards
  int64_t documents = 0;

  // A task: it makes its samples, and never the same twice.
  [[nodiscard]] bool endless() const { return samples == kEndless; }

  // `wanted` of its samples, spread evenly; none: all. Of a task the first ones, of which some must be wanted.
  [[nodiscard]] EvenSamples Take(std::optional<int64_t> wanted) const {
    return endless() ? EvenSamples{wanted.value(), wanted.value()} : TakeEvenly(wanted.value_or(samples), samples);
  }
};

class Dataset {
 public:
  // Opens and checks every shard. Error kMissingInput: a folder or file is not there; kBadData: a damaged or changed
  // shard, a source without a sample of sequence_length, a token >= vocab_size, sources of different tokenizers;
  // kConfig: a weight that is not positive or rounds to 0 of 1024, two sources of one name. Of tasks as TaskStream.
  explicit Dataset(const DatasetConfig& config);
  ~Dataset();
  Dataset(const Dataset&) = delete;
  Dataset& operator=(const Dataset&) = delete;

  [[nodiscard]] const DatasetConfig& config() const;
  [[nodiscard]] const std::vector<SourceInfo>& train_sources() const;
  [[nodiscard]] const std::vector<SourceInfo>& validation_sources() const;

  // Text tokens after which the source that ends first begins again (samples · sequence_length · 1024 / share); none
  // where all are tasks.
  [[nodiscard]] std::optional<int64_t> TokensPerEpoch() const;

  // Samples [first, first + count) of the run. Reuses the batch's memory. Thread-safe. Verifies the hash of a block of
  // tokens when it is first touched; Error kBadData under OnCorrupt::kAbort.
  void MakeBatch(int64_t first, int64_t count, Batch& batch) const;

  // Samples [first, first + count) of those that `samples` takes of a validation source, which holds samples.there in
  // plain order; first + count <= samples.taken. `samples` is of SourceInfo::Take. Errors as MakeBatch.
  void MakeValidationBatch(size_t source, const EvenSamples& samples, int64_t first, int64_t count, Batch& batch) const;

  // 16 hexadecimal digits over the contents of the training sources: of shards counts, hashes, tokenizer, order, and
  // not paths; of tasks all that their samples depend on.
  [[nodiscard]] std::string Fingerprint() const;

  // The tokenizer's file in the first folder, and what it says of itself. Tasks alone have none: "", "", 0.
  [[nodiscard]] bool HasTokenizer() const;
  [[nodiscard]] std::string TokenizerPath() const;
  [[nodiscard]] std::string TokenizerName() const;
  [[nodiscard]] uint64_t TokenizerXxh3() const;  // of that file

  // Bytes that were read to check hashes so far, of all sources.
  [[nodiscard]] int64_t CheckedBytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ksa
