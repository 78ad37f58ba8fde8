#include "trainer/interop/export_hf.h"

#include <memory>
#include <utility>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "data/files/posix_file.h"
#include "data/shards/staged_folder.h"
#include "data/tokenizers/tokenizer.h"
#include "kernels/core/error.h"
#include "model/ksa/model.h"
#include "model/ksa/parameters.h"
#include "trainer/checkpoint/checkpoint_source.h"
#include "trainer/checkpoint/run_tokenizer.h"
#include "trainer/config/load.h"
#include "trainer/interop/composed_source.h"
#include "trainer/interop/hf_python.h"
#include "trainer/interop/hf_tokenizer.h"
#include "trainer/interop/model_card.h"

namespace ksa {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";
constexpr const char* kSummaryEmbedding = "summary_embedding.weight";

std::unique_ptr<Tokenizer> TokenizerFor(const Checkpoint& checkpoint, std::vector<std::string>& notes) {
  const std::optional<std::string> path = FindTokenizerFile(checkpoint);
  if (!path) {
    notes.emplace_back("neither the checkpoint nor its run's folder holds a tokenizer: the folder has none");
    return nullptr;
  }
  return OpenTokenizer(*path);
}

// generate() never stops without an end, and must not sample ids that stand for summaries.
std::string GenerationConfig(const ModelConfig& model, HfLayout layout, const std::optional<int64_t>& eos) {
  nlohmann::ordered_json json;
  if (eos) {
    json["eos_token_id"] = *eos;
    json["pad_token_id"] = *eos;
  }
  json["do_sample"] = false;
  if (layout == HfLayout::kOwn) {
    json["use_cache"] = false;
  }
  const int64_t rows =
      layout == HfLayout::kReleased ? model.vocab_size + model.ksa.summary_tokens : int64_t{model.EmbeddingRows()};
  if (rows > model.vocab_size) {
    std::vector<int64_t> ids;
    for (int64_t id = model.vocab_size; id < rows; ++id) {
      ids.push_back(id);
    }
    json["suppress_tokens"] = ids;
  }
  return json.dump(2) + "\n";
}

// Summaries' rows behind the vocabulary's, zero in the head.
std::shared_ptr<TensorSource> AsReleased(std::shared_ptr<TensorSource> weights, const ModelConfig& model) {
  if (!model.ksa.independent.embedding) {
    return weights;  // they are there already
  }
  const int64_t summaries = model.ksa.summary_tokens;
  std::vector<ComposedTensor> tensors;
  for (const TensorInfo& tensor : weights->tensors()) {
    if (tensor.name == kSummaryEmbedding) {
      continue;
    }
    ComposedTensor composed = SameTensor(tensor);
    if (tensor.name == kEmbedding || tensor.name == kHead) {
      composed.info.shape.front() += summaries;
      composed.pieces.push_back({tensor.name == kHead ? "" : kSummaryEmbedding, 0, summaries});
    }
    tensors.push_back(std::move(composed));
  }
  return std::make_shared<ComposedSource>(std::move(weights), std::move(tensors));
}

void CheckLayout(const ModelConfig& model, const std::string& path, HfLayout layout) {
  if (const std::vector<std::string> problems = LayoutProblems(model, layout); !problems.empty()) {
    Fail(ExitCode::kConfig,
         "{}: the layout {} cannot say this model:\n  {}",
         path,
         NameOf(layout),
         fmt::join(problems, "\n  "));
  }
}

void WriteOtherFiles(const std::string& folder, const std::vector<FolderFile>& files) {
  for (const FolderFile& file : files) {
    WriteDurably(folder + "/" + file.name, file.contents);
  }
}

}  // namespace

ExportReport ExportHf(const Checkpoint& checkpoint, const std::string& folder, const ExportOptions& options) {
  const CheckpointMeta& meta = checkpoint.manifest.meta;
  const Config config = ParseConfig(meta.configuration, checkpoint.path + "/manifest.json").config;
  const ModelConfig& model = config.model;
  CheckLayout(model, checkpoint.path, options.layout);
  const DType state = AccumulationType(config.training.precision.value_or(DType::kF32));
  CheckSameModel(ParameterSpecs(model), state, checkpoint, LoadParts::kWeights);

  ExportReport report;
  const std::unique_ptr<Tokenizer> tokenizer = TokenizerFor(checkpoint, report.notes);
  HfFacts facts{.mix = AnnealMix(model, meta.step), .step = meta.step, .eos = {}, .type = options.weights.type};
  std::vector<FolderFile> files;
  if (tokenizer != nullptr) {
    facts.eos = tokenizer->eos_id();
    ExportedTokenizer exported = ExportTokenizer(*tokenizer, model.max_position_embeddings);
    files = std::move(exported.files);
    report.notes.insert(report.notes.end(), exported.notes.begin(), exported.notes.end());
  }
  if (state == DType::kF64 || options.weights.type == StoredType::kBF16) {
    report.notes.push_back(
        fmt::format("weights are rounded from {} to {}", NameOf(state), NameOf(options.weights.type)));
  }
  files.push_back({"config.json", RenderHfConfig(model, options.layout, facts)});
  files.push_back({"generation_config.json", GenerationConfig(model, options.layout, facts.eos)});
  files.push_back({"README.md", ModelCard(checkpoint, model, options.layout, report.notes)});
  if (options.layout == HfLayout::kOwn) {
    files.push_back({"configuration_ksa.py", std::string(kConfigurationKsaPy)});
    files.push_back({"modeling_ksa.py", std::string(kModelingKsaPy)});
  }

  std::shared_ptr<TensorSource> weights = std::make_shared<WeightsOfCheckpoint>(checkpoint);
  if (options.layout == HfLayout::kReleased) {
    weights = AsReleased(std::move(weights), model);
  }
  StagedFolder staged(folder);
  SafetensorsSink sink(staged.staging(), weights->tensors(), options.weights);
  CopyTensors(*weights, sink);
  WriteOtherFiles(staged.staging(), files);
  staged.Commit();
  report.bytes = sink.bytes();
  report.tensors = static_cast<int64_t>(sink.tensors().size());
  report.files = sink.files();
  return report;
}

}  // namespace ksa
