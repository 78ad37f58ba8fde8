#include "data/loader/dataset.h"

#include <algorithm>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "data/files/streamed_hash.h"
#include "data/loader/batch_rows.h"
#include "data/loader/open_source.h"
#include "data/loader/sample_source.h"
#include "data/sampling/sample_order.h"
#include "data/shards/shard_folder.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

// The sources of one list.
struct SourceList {
  std::vector<std::unique_ptr<SampleSource>> sources;
  std::vector<SourceInfo> infos;
  std::vector<SourceShape> shapes;
};

}  // namespace

struct Dataset::Impl {
  DatasetConfig config;
  SourceList train;
  SourceList validation;
  std::optional<SampleOrder> order;            // of the training sources
  std::vector<SampleOrder> validation_orders;  // one source each: only its plain order is used
  const ShardFolder* first_folder = nullptr;   // null: tasks alone
  std::unique_ptr<Tokenizer> tokenizer;        // where a task takes it

  explicit Impl(const DatasetConfig& from);

  // Shard folders first: tasks of text take their tokenizer.
  template <typename Source>
  void OpenShards(const std::vector<Source>& sources, SourceList& list);
  template <typename Source>
  void OpenTasks(const std::vector<Source>& sources, const char* name, TaskUse use, SourceList& list);
  [[nodiscard]] const Tokenizer* TokenizerFor(const TaskSpec& task);
};

Dataset::Impl::Impl(const DatasetConfig& from) : config(from) {
  KSA_CHECK(config.sequence_length >= 1 && config.chunk_size >= 1 && config.vocab_size >= 1,
            "sequence length {}, chunk size {}, vocabulary {}",
            config.sequence_length,
            config.chunk_size,
            config.vocab_size);
  KSA_CHECK(!config.train.empty() || !config.validation.empty(), "a dataset without any source");
  OpenShards(config.train, train);
  OpenShards(config.validation, validation);
  OpenTasks(config.train, "data.train", TaskUse::kTraining, train);
  OpenTasks(config.validation, "data.validation", TaskUse::kValidation, validation);
  if (!train.shapes.empty()) {
    order.emplace(config.seed, train.shapes);
  }
  for (size_t s = 0; s < train.shapes.size(); ++s) {
    train.infos[s].share = order->shares()[s];
    train.infos[s].samples = order->samples(static_cast<int32_t>(s));
  }
  for (size_t s = 0; s < validation.shapes.size(); ++s) {
    validation_orders.emplace_back(config.seed, std::span(&validation.shapes[s], 1));
    validation.infos[s].samples = validation_orders.back().samples(0);
  }
}

template <typename Source>
void Dataset::Impl::OpenShards(const std::vector<Source>& sources, SourceList& list) {
  list.sources.resize(sources.size());
  list.infos.resize(sources.size());
  list.shapes.resize(sources.size());
  for (size_t s = 0; s < sources.size(); ++s) {
    if (!sources[s].task.kind.empty()) {
      continue;
    }
    OpenedSource opened = OpenSource(sources[s], config, first_folder);
    const ShardIndex& index = opened.folder.index();
    list.infos[s] = {opened.shape.name, sources[s].path, 0, 0, index.tokens(), index.documents()};
    list.shapes[s] = std::move(opened.shape);
    list.sources[s] = MakeShardSource(std::move(opened.folder), config);
    first_folder = first_folder == nullptr ? list.sources[s]->folder() : first_folder;
  }
}

template <typename Source>
void Dataset::Impl::OpenTasks(const std::vector<Source>& sources, const char* name, TaskUse use, SourceList& list) {
  std::set<std::string> names;
  for (size_t s = 0; s < sources.size(); ++s) {
    if (!sources[s].task.kind.empty()) {
      list.shapes[s] = TaskShape(sources[s]);
      list.infos[s] = {list.shapes[s].name, "", 0, 0, 0, 0};
      list.sources[s] =
          MakeTaskSource(sources[s].task, list.shapes[s].name, use, config, TokenizerFor(sources[s].task));
    }
    if (!names.insert(list.shapes[s].name).second) {
      Fail(ExitCode::kConfig,
           "{}: two sources are called '{}'; give one of them another name",
           name,
           list.shapes[s].name);
    }
  }
}

const Tokenizer* Dataset::Impl::TokenizerFor(const TaskSpec& task) {
  if (!FindTaskKind(task.kind)->is_text || first_folder == nullptr) {
    return nullptr;
  }
  if (tokenizer == nullptr) {
    tokenizer = OpenTokenizer(first_folder->TokenizerPath());
  }
  return tokenizer.get();
}

Dataset::Dataset(const DatasetConfig& config) : impl_(std::make_unique<Impl>(config)) {}

Dataset::~Dataset() = default;

const DatasetConfig& Dataset::config() const {
  return impl_->config;
}

const std::vector<SourceInfo>& Dataset::train_sources() const {
  return impl_->train.infos;
}

const std::vector<SourceInfo>& Dataset::validation_sources() const {
  return impl_->validation.infos;
}

std::optional<int64_t> Dataset::TokensPerEpoch() const {
  std::optional<double> least;
  for (const SourceInfo& source : impl_->train.infos) {
    if (!source.endless()) {
      const double tokens = static_cast<double>(source.samples) * impl_->config.sequence_length *
                            (static_cast<double>(kBlendSlots) / source.share);
      least = std::min(least.value_or(tokens), tokens);
    }
  }
  return least ? std::optional(static_cast<int64_t>(*least)) : std::nullopt;
}

void Dataset::MakeBatch(int64_t first, int64_t count, Batch& batch) const {
  KSA_CHECK(impl_->order.has_value(), "a dataset without training sources has no training batch");
  ResizeBatch(first, count, impl_->config, batch);
  SampleScratch scratch;
  for (int64_t i = 0; i < count; ++i) {
    const SampleLocation at = impl_->order->At(first + i);
    batch.source[static_cast<size_t>(i)] = at.source;
    impl_->train.sources[static_cast<size_t>(at.source)]->Fill(at, i, batch, scratch);
  }
}

void Dataset::MakeValidationBatch(
    size_t source, const EvenSamples& samples, int64_t first, int64_t count, Batch& batch) const {
  KSA_CHECK(
      source < impl_->validation.infos.size(), "validation source {} of {}", source, impl_->validation.infos.size());
  const SourceInfo& info = impl_->validation.infos[source];
  KSA_CHECK((info.endless() ? samples.there == samples.taken : samples.there == info.samples) &&
                first + count <= samples.taken,
            "samples {} to {} of {}, spread over {}",
            first,
            first + count,
            samples.taken,
            samples.there);
  ResizeBatch(first, count, impl_->config, batch);
  SampleScratch scratch;
  for (int64_t i = 0; i < count; ++i) {
    const SampleLocation at = impl_->validation_orders[source].Plain(0, samples.At(first + i));
    impl_->validation.sources[source]->Fill(at, i, batch, scratch);
  }
}

std::string Dataset::Fingerprint() const {
  StreamedHash hash;
  for (const std::unique_ptr<SampleSource>& source : impl_->train.sources) {
    source->AddTo(hash);
  }
  return Hex(hash.Digest());
}

bool Dataset::HasTokenizer() const {
  return impl_->first_folder != nullptr;
}

std::string Dataset::TokenizerPath() const {
  return HasTokenizer() ? impl_->first_folder->TokenizerPath() : "";
}

std::string Dataset::TokenizerName() const {
  return HasTokenizer() ? impl_->first_folder->index().tokenizer : "";
}

uint64_t Dataset::TokenizerXxh3() const {
  return HasTokenizer() ? impl_->first_folder->index().tokenizer_xxh3 : 0;
}

int64_t Dataset::CheckedBytes() const {
  int64_t bytes = 0;
  for (const SourceList* list : {&impl_->train, &impl_->validation}) {
    for (const std::unique_ptr<SampleSource>& source : list->sources) {
      bytes += source->CheckedBytes();
    }
  }
  return bytes;
}

}  // namespace ksa
