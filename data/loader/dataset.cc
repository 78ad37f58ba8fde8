#include "data/loader/dataset.h"

#include <algorithm>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "data/files/streamed_hash.h"
#include "data/loader/batch_rows.h"
#include "data/loader/open_source.h"
#include "data/sampling/sample_order.h"
#include "data/shards/shard_folder.h"
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

}  // namespace

struct Dataset::Impl {
  DatasetConfig config;
  std::vector<ShardFolder> train;
  std::vector<ShardFolder> validation;
  std::vector<SourceInfo> train_info;
  std::vector<SourceInfo> validation_info;
  std::optional<SampleOrder> order;            // of the training sources
  std::vector<SampleOrder> validation_orders;  // one source each: only its plain order is used

  // Scratch of one call of MakeBatch.
  struct Scratch {
    std::vector<int32_t> window;
    std::vector<int64_t> starts;
  };

  explicit Impl(const DatasetConfig& from);
  void OpenTrain();
  void OpenValidation();

  [[nodiscard]] const ShardFolder& first_folder() const { return train.empty() ? validation.front() : train.front(); }

  [[nodiscard]] bool SampleIsGood(const TokenShard& shard, int64_t first) const;
  void FillSample(const TokenShard& shard, int64_t shard_sample, int64_t index, Batch& batch, Scratch& scratch) const;
};

Dataset::Impl::Impl(const DatasetConfig& from) : config(from) {
  KSA_CHECK(config.sequence_length >= 1 && config.chunk_size >= 1 && config.vocab_size >= 1,
            "sequence length {}, chunk size {}, vocabulary {}",
            config.sequence_length,
            config.chunk_size,
            config.vocab_size);
  KSA_CHECK(!config.train.empty() || !config.validation.empty(), "a dataset without any source");
  OpenTrain();
  OpenValidation();
}

void Dataset::Impl::OpenTrain() {
  std::vector<SourceShape> shapes;
  std::set<std::string> names;
  for (const TrainSource& source : config.train) {
    OpenedSource opened = OpenSource(source, config, train.empty() ? nullptr : &train.front());
    const std::string& name = opened.shape.name;
    if (!names.insert(name).second) {
      Fail(ExitCode::kConfig, "data.train: two sources are called '{}'; give one of them another name", name);
    }
    const ShardIndex& index = opened.folder.index();
    train_info.push_back({name, source.path, 0, 0, index.tokens(), index.documents()});
    train.push_back(std::move(opened.folder));
    shapes.push_back(std::move(opened.shape));
  }
  if (shapes.empty()) {
    return;
  }
  order.emplace(config.seed, shapes);
  for (size_t s = 0; s < shapes.size(); ++s) {
    train_info[s].share = order->shares()[s];
    train_info[s].samples = order->samples(static_cast<int32_t>(s));
  }
}

void Dataset::Impl::OpenValidation() {
  std::set<std::string> names;
  for (const ValidationSource& source : config.validation) {
    const bool is_first = train.empty() && validation.empty();
    OpenedSource opened = OpenSource(source, config, is_first ? nullptr : &first_folder());
    const std::string& name = opened.shape.name;
    if (!names.insert(name).second) {
      Fail(ExitCode::kConfig, "data.validation: two sources are called '{}'; give one of them another name", name);
    }
    validation_orders.emplace_back(config.seed, std::span(&opened.shape, 1));
    const ShardIndex& index = opened.folder.index();
    validation_info.push_back(
        {name, source.path, 0, validation_orders.back().samples(0), index.tokens(), index.documents()});
    validation.push_back(std::move(opened.folder));
  }
}

// Whether everything that the sample of window [first, first + T] needs is undamaged. Throws under kAbort.
bool Dataset::Impl::SampleIsGood(const TokenShard& shard, int64_t first) const {
  const auto report = [&](const std::string& what) {
    if (config.on_corrupt == OnCorrupt::kAbort) {
      Fail(ExitCode::kBadData,
           "{}: {} does not match its hash; the shard is damaged. Restore it (`ksa data verify` lists what is wrong), "
           "or set data.on_corrupt: skip to train without the samples that touch it",
           shard.path(),
           what);
    }
  };
  bool good = true;
  const int64_t size = shard.check_tokens();
  for (int64_t index = first / size; index <= (first + config.sequence_length) / size; ++index) {
    if (!shard.IsGood(index)) {
      report(fmt::format("block {} (from token {} on)", index * size / kBlockTokens, index * size));
      good = false;
    }
  }
  if (config.document_mask && !shard.DocumentOffsetsAreGood()) {
    report("/document_offsets");
    good = false;
  }
  return good;
}

void Dataset::Impl::FillSample(
    const TokenShard& shard, int64_t shard_sample, int64_t index, Batch& batch, Scratch& scratch) const {
  const int32_t length = config.sequence_length;
  const int64_t first = shard_sample * length;
  scratch.starts.clear();
  scratch.window.resize(static_cast<size_t>(length) + 1);
  const bool good = SampleIsGood(shard, first);
  if (good) {
    shard.Read(first, scratch.window);
  } else {  // a damaged block may hold any number: one document of token 0, without targets
    std::fill(scratch.window.begin(), scratch.window.end(), 0);
    ++batch.corrupt_samples;
  }
  if (config.document_mask && good) {
    FindDocumentStarts(shard, first, length, scratch.starts);
  }
  const FillResult filled = FillRows(scratch.window, scratch.starts, config, index, batch);
  batch.dropped_tokens += filled.dropped;
  if (good) {
    batch.target_count += filled.targets;
  } else {
    std::ranges::fill(TargetsOf(batch, index), Batch::kNoTarget);
  }
}

Dataset::Dataset(const DatasetConfig& config) : impl_(std::make_unique<Impl>(config)) {}

Dataset::~Dataset() = default;

const DatasetConfig& Dataset::config() const {
  return impl_->config;
}

const std::vector<SourceInfo>& Dataset::train_sources() const {
  return impl_->train_info;
}

const std::vector<SourceInfo>& Dataset::validation_sources() const {
  return impl_->validation_info;
}

int64_t Dataset::TokensPerEpoch() const {
  double least = 0;
  for (const SourceInfo& source : impl_->train_info) {
    const double tokens = static_cast<double>(source.samples) * impl_->config.sequence_length *
                          (static_cast<double>(kBlendSlots) / source.share);
    least = least == 0 ? tokens : std::min(least, tokens);
  }
  return static_cast<int64_t>(least);
}

void Dataset::MakeBatch(int64_t first, int64_t count, Batch& batch) const {
  KSA_CHECK(impl_->order.has_value(), "a dataset without training sources has no training batch");
  ResizeBatch(first, count, impl_->config, batch);
  Impl::Scratch scratch;
  for (int64_t i = 0; i < count; ++i) {
    const SampleLocation at = impl_->order->At(first + i);
    const TokenShard& shard = impl_->train[static_cast<size_t>(at.source)].shards()[static_cast<size_t>(at.shard)];
    impl_->FillSample(shard, at.shard_sample, i, batch, scratch);
  }
}

void Dataset::MakeValidationBatch(
    size_t source, const EvenSamples& samples, int64_t first, int64_t count, Batch& batch) const {
  KSA_CHECK(source < impl_->validation.size(), "validation source {} of {}", source, impl_->validation.size());
  KSA_CHECK(samples.there == impl_->validation_info[source].samples && first + count <= samples.taken,
            "samples {} to {} of {}, spread over {}",
            first,
            first + count,
            samples.taken,
            samples.there);
  ResizeBatch(first, count, impl_->config, batch);
  Impl::Scratch scratch;
  for (int64_t i = 0; i < count; ++i) {
    const SampleLocation at = impl_->validation_orders[source].Plain(0, samples.At(first + i));
    const TokenShard& shard = impl_->validation[source].shards()[static_cast<size_t>(at.shard)];
    impl_->FillSample(shard, at.shard_sample, i, batch, scratch);
  }
}

std::string Dataset::Fingerprint() const {
  StreamedHash hash;
  const auto add = [&](uint64_t value) { hash.Update(&value, sizeof value); };
  for (const ShardFolder& folder : impl_->train) {
    add(folder.index().tokenizer_xxh3);
    add(folder.index().shards.size());
    for (const ShardEntry& entry : folder.index().shards) {
      add(static_cast<uint64_t>(entry.tokens));
      add(static_cast<uint64_t>(entry.documents));
      add(entry.tokens_xxh3);
      add(entry.document_offsets_xxh3);
    }
  }
  return Hex(hash.Digest());
}

std::string Dataset::TokenizerPath() const {
  return impl_->first_folder().TokenizerPath();
}

std::string Dataset::TokenizerName() const {
  return impl_->first_folder().index().tokenizer;
}

uint64_t Dataset::TokenizerXxh3() const {
  return impl_->first_folder().index().tokenizer_xxh3;
}

int64_t Dataset::CheckedBytes() const {
  int64_t bytes = 0;
  for (const std::vector<ShardFolder>* folders : {&impl_->train, &impl_->validation}) {
    for (const ShardFolder& folder : *folders) {
      for (const TokenShard& shard : folder.shards()) {
        bytes += shard.checked_bytes();
      }
    }
  }
  return bytes;
}

}  // namespace ksa
