#include "data/loader/sample_source.h"

#include <algorithm>
#include <span>
#include <utility>

#include "data/loader/batch_rows.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

// Positions in (0, T] of the window of T+1 tokens from `first` at which a document starts.
void FindDocumentStarts(const TokenShard& shard, int64_t first, int64_t length, std::vector<int64_t>& starts) {
  const std::span<const uint64_t> offsets = shard.document_offsets();
  starts.clear();
  auto next = std::upper_bound(offsets.begin(), offsets.end(), static_cast<uint64_t>(first));
  for (; next != offsets.end() && static_cast<int64_t>(*next) <= first + length; ++next) {
    if (static_cast<int64_t>(*next) < shard.tokens()) {  // the last offset is an end alone
      starts.push_back(static_cast<int64_t>(*next) - first);
    }
  }
}

class ShardSource final : public SampleSource {
 public:
  ShardSource(ShardFolder folder, const DatasetConfig& config) : folder_(std::move(folder)), config_(config) {}

  void Fill(const SampleLocation& at, int64_t index, Batch& batch, SampleScratch& scratch) const override;

  void AddTo(StreamedHash& hash) const override {
    const auto add = [&](uint64_t value) { hash.Update(&value, sizeof value); };
    add(folder_.index().tokenizer_xxh3);
    add(folder_.index().shards.size());
    for (const ShardEntry& entry : folder_.index().shards) {
      add(static_cast<uint64_t>(entry.tokens));
      add(static_cast<uint64_t>(entry.documents));
      add(entry.tokens_xxh3);
      add(entry.document_offsets_xxh3);
    }
  }

  [[nodiscard]] const ShardFolder* folder() const override { return &folder_; }

  [[nodiscard]] int64_t CheckedBytes() const override {
    int64_t bytes = 0;
    for (const TokenShard& shard : folder_.shards()) {
      bytes += shard.checked_bytes();
    }
    return bytes;
  }

 private:
  [[nodiscard]] bool SampleIsGood(const TokenShard& shard, int64_t first) const;

  ShardFolder folder_;
  const DatasetConfig& config_;
};

// Whether everything that the sample of window [first, first + T] needs is undamaged. Throws under kAbort.
bool ShardSource::SampleIsGood(const TokenShard& shard, int64_t first) const {
  const auto report = [&](const std::string& what) {
    if (config_.on_corrupt == OnCorrupt::kAbort) {
      Fail(ExitCode::kBadData,
           "{}: {} does not match its hash; the shard is damaged. Restore it (`ksa data verify` lists what is wrong), "
           "or set data.on_corrupt: skip to train without the samples that touch it",
           shard.path(),
           what);
    }
  };
  bool good = true;
  const int64_t size = shard.check_tokens();
  for (int64_t index = first / size; index <= (first + config_.sequence_length) / size; ++index) {
    if (!shard.IsGood(index)) {
      report(fmt::format("block {} (from token {} on)", index * size / kBlockTokens, index * size));
      good = false;
    }
  }
  if (config_.document_mask && !shard.DocumentOffsetsAreGood()) {
    report("/document_offsets");
    good = false;
  }
  return good;
}

void ShardSource::Fill(const SampleLocation& at, int64_t index, Batch& batch, SampleScratch& scratch) const {
  const TokenShard& shard = folder_.shards()[static_cast<size_t>(at.shard)];
  const int32_t length = config_.sequence_length;
  const int64_t first = at.shard_sample * length;
  scratch.starts.clear();
  scratch.window.resize(static_cast<size_t>(length) + 1);
  const bool good = SampleIsGood(shard, first);
  if (good) {
    shard.Read(first, scratch.window);
  } else {  // a damaged block may hold any number: one document of token 0, without targets
    std::fill(scratch.window.begin(), scratch.window.end(), 0);
    ++batch.corrupt_samples;
  }
  if (config_.document_mask && good) {
    FindDocumentStarts(shard, first, length, scratch.starts);
  }
  const FillResult filled = FillRows(scratch.window, scratch.starts, config_, index, batch);
  batch.dropped_tokens += filled.dropped;
  if (good) {
    batch.target_count += filled.targets;
  } else {
    std::ranges::fill(TargetsOf(batch, index), Batch::kNoTarget);
  }
}

class TaskSource final : public SampleSource {
 public:
  TaskSource(
      const TaskSpec& spec, std::string name, TaskUse use, const DatasetConfig& config, const Tokenizer* tokenizer)
      : stream_(spec, name, use, config, tokenizer), spec_(spec), name_(std::move(name)) {}

  void Fill(const SampleLocation& at, int64_t index, Batch& batch, SampleScratch& /*scratch*/) const override {
    stream_.Fill(at.index, index, batch);
  }

  // Its name is part of what it makes.
  void AddTo(StreamedHash& hash) const override {
    std::string text = fmt::format("task {} '{}'", spec_.kind, name_);
    for (const auto& [key, value] : spec_.values) {
      text += fmt::format(" {}={}", key, TaskValueText(*FindTaskKind(spec_.kind)->FindKey(key), value));
    }
    hash.Update(text.data(), text.size());
  }

 private:
  TaskStream stream_;
  TaskSpec spec_;
  std::string name_;
};

}  // namespace

std::unique_ptr<SampleSource> MakeShardSource(ShardFolder folder, const DatasetConfig& config) {
  return std::make_unique<ShardSource>(std::move(folder), config);
}

std::unique_ptr<SampleSource> MakeTaskSource(const TaskSpec& spec,
                                             const std::string& name,
                                             TaskUse use,
                                             const DatasetConfig& config,
                                             const Tokenizer* tokenizer) {
  return std::make_unique<TaskSource>(spec, name, use, config, tokenizer);
}

}  // namespace ksa
