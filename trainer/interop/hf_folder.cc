#include "trainer/interop/hf_folder.h"

#include <algorithm>
#include <utility>

#include <fmt/ranges.h>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "kernels/core/error.h"
#include "kernels/core/host_allocator.h"
#include "model/ksa/model.h"
#include "trainer/interop/composed_source.h"
#include "trainer/interop/hf_tokenizer.h"
#include "trainer/interop/safetensors.h"

namespace ksa {
namespace {

constexpr const char* kConfigFile = "config.json";
constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";
constexpr const char* kSummaryEmbedding = "summary_embedding.weight";
constexpr int64_t kMostConfigBytes = int64_t{1} << 24;

// Whether two tensors, or rows of one, hold the same numbers.
bool AllEqual(TensorSource& source, const TensorInfo& a, const TensorInfo& b) {
  if (a.shape != b.shape) {
    return false;
  }
  bool equal = true;
  ForEachBlock(a, [&](const FlatRange& range) {
    HostAllocator memory;
    const Tensor x = Tensor::Empty({range.size()}, DType::kF64, memory);
    const Tensor y = Tensor::Empty({range.size()}, DType::kF64, memory);
    ReadAs(source, a, RangeOf(a, range), x);
    ReadAs(source, b, RangeOf(b, range), y);
    equal = equal && std::equal(x.As<double>(), x.As<double>() + range.size(), y.As<double>());
  });
  return equal;
}

bool AllZero(TensorSource& source, const TensorInfo& tensor, const FlatRange& range) {
  HostAllocator memory;
  const Tensor values = Tensor::Empty({range.size()}, DType::kF64, memory);
  ReadAs(source, tensor, RangeOf(tensor, range), values);
  return std::all_of(values.As<double>(), values.As<double>() + range.size(), [](double x) { return x == 0.0; });
}

// A tied model's head is the embedding; a folder may hold it all the same.
void TakeTiedHead(HfFolder& folder) {
  const TensorInfo* head = folder.weights->Find(kHead);
  const TensorInfo* table = folder.weights->Find(kEmbedding);
  if (!folder.hf.model.tie_word_embeddings || head == nullptr || table == nullptr) {
    return;
  }
  if (!AllEqual(*folder.weights, *head, *table)) {
    Fail(ExitCode::kConfig,
         "{}: tie_word_embeddings: true, and yet {} and {} differ; say false if both are meant, or remove the head",
         folder.path,
         kHead,
         kEmbedding);
  }
  folder.unused.push_back(std::string(kHead) + " (equal to " + kEmbedding + ", to which it is tied)");
  std::vector<ComposedTensor> tensors;
  for (const TensorInfo& tensor : folder.weights->tensors()) {
    if (tensor.name != kHead) {
      tensors.push_back(SameTensor(tensor));
    }
  }
  folder.weights = std::make_shared<ComposedSource>(folder.weights, std::move(tensors));
}

ComposedTensor RowsOf(const TensorInfo& tensor, const std::string& name, int64_t first, int64_t count) {
  ComposedTensor part{tensor, {{tensor.name, first, count}}};
  part.info.name = name;
  part.info.shape.front() = count;
  return part;
}

// The released layout: summaries' rows lie behind the vocabulary's.
void TakeReleased(HfFolder& folder) {
  ModelConfig& model = folder.hf.model;
  const TensorInfo* table = folder.weights->Find(kEmbedding);
  const TensorInfo* head = folder.weights->Find(kHead);
  const int64_t rows = model.vocab_size + model.ksa.summary_tokens;
  for (const TensorInfo* tensor : {table, head}) {
    if (tensor != nullptr && (tensor->shape.size() != 2 || tensor->shape[0] != rows)) {
      Fail(ExitCode::kConfig,
           "{}: {} has the shape {}, while summary_token_begin and summary_token_num ask for {} rows",
           folder.path,
           tensor->name,
           DescribeShape(tensor->shape),
           rows);
    }
  }
  if (table == nullptr) {
    Fail(ExitCode::kConfig, "{}: {} is missing", folder.path, kEmbedding);
  }
  const bool untied = head != nullptr && !model.tie_word_embeddings;
  if (untied) {
    const int64_t width = head->shape[1];
    model.ksa.independent.embedding = AllZero(*folder.weights, *head, {model.vocab_size * width, rows * width});
  }
  if (folder.hf.mix == 0 && model.ksa.independent.qkv) {
    model.ksa.independent.qkv = false;  // the own projections have no part any more
    folder.hf.mix = 1;
  }
  std::vector<ComposedTensor> tensors;
  for (const TensorInfo& tensor : folder.weights->tensors()) {
    const bool own = model.ksa.independent.embedding;
    const bool projection = tensor.name.find("_proj_summary.") != std::string::npos;
    if (projection && !model.ksa.independent.qkv) {
      folder.unused.push_back(tensor.name + " (mix_coeff is 0)");
    } else if (own && tensor.name == kEmbedding) {
      tensors.push_back(RowsOf(tensor, kEmbedding, 0, model.vocab_size));
      tensors.push_back(RowsOf(tensor, kSummaryEmbedding, model.vocab_size, model.ksa.summary_tokens));
    } else if (own && tensor.name == kHead) {
      tensors.push_back(RowsOf(tensor, kHead, 0, model.vocab_size));
    } else {
      tensors.push_back(SameTensor(tensor));
    }
  }
  folder.weights = std::make_shared<ComposedSource>(folder.weights, std::move(tensors));
}

// The mix of an update between: ours says it with its annealing, others cannot.
void CheckMix(const HfFolder& folder) {
  const double expected = AnnealMix(folder.hf.model, folder.hf.step);
  if (folder.hf.model.HasSummaryRows() && folder.hf.model.ksa.independent.qkv && folder.hf.mix != expected) {
    Fail(ExitCode::kConfig,
         "{}/{}: {} is {}, and attention.ksa.anneal and training_step give {}; a mix in between is computed of those "
         "only",
         folder.path,
         kConfigFile,
         folder.hf.layout == HfLayout::kReleased ? "mix_coeff" : "summary_mix",
         folder.hf.mix,
         expected);
  }
}

}  // namespace

bool IsHfFolder(const std::string& path) {
  return Exists(path + "/" + kConfigFile) && !Exists(path + "/" + std::string(kManifestName));
}

HfFolder OpenHfFolder(const std::string& path) {
  HfFolder folder;
  folder.path = path;
  const std::string config = path + "/" + kConfigFile;
  if (!Exists(config)) {
    Fail(ExitCode::kMissingInput, "{}: there is no {}; a folder as of Hugging Face is needed", path, kConfigFile);
  }
  folder.hf = ParseHfConfig(ReadSmallFile(config, kMostConfigBytes), config);
  auto source = std::make_shared<SafetensorsSource>(path);
  const std::vector<TensorInfo>& tensors = source->tensors();
  folder.all_fp64 = std::all_of(
      tensors.begin(), tensors.end(), [&](const TensorInfo& tensor) { return tensor.dtype == DType::kF64; });
  folder.weights = std::move(source);
  TakeTiedHead(folder);
  if (folder.hf.layout == HfLayout::kReleased) {
    TakeReleased(folder);
  }
  CheckMix(folder);
  return folder;
}

HfComparison CompareModels(const HfModel& hf, const ModelConfig& ours) {
  HfComparison result;
  const ModelConfig& theirs = hf.model;
  const auto compare = [](std::vector<std::string>& lines, const char* key, auto there, auto here) {
    if (there != here) {
      lines.push_back(fmt::format("model.{}: {} in the folder, {} in the configuration", key, there, here));
    }
  };
  compare(result.problems, "vocab_size", theirs.vocab_size, ours.vocab_size);
  compare(result.problems, "hidden_size", theirs.hidden_size, ours.hidden_size);
  compare(result.problems, "intermediate_size", theirs.intermediate_size, ours.intermediate_size);
  compare(result.problems, "num_hidden_layers", theirs.num_hidden_layers, ours.num_hidden_layers);
  compare(result.problems, "num_attention_heads", theirs.num_attention_heads, ours.num_attention_heads);
  compare(result.problems, "num_key_value_heads", theirs.num_key_value_heads, ours.num_key_value_heads);
  compare(result.problems, "head_dim", theirs.head_dim, ours.head_dim);
  compare(result.problems, "rms_norm_eps", theirs.rms_norm_eps, ours.rms_norm_eps);
  compare(result.problems, "qk_norm", theirs.qk_norm, ours.qk_norm);
  if (ours.tie_word_embeddings && !theirs.tie_word_embeddings) {
    compare(result.problems, "tie_word_embeddings", theirs.tie_word_embeddings, ours.tie_word_embeddings);
  }
  compare(result.notes, "rope_theta", theirs.rope_theta, ours.rope_theta);
  compare(result.notes, "max_position_embeddings", theirs.max_position_embeddings, ours.max_position_embeddings);
  return result;
}

std::vector<std::string> CheckHfModel(const HfFolder& folder, const ModelConfig& ours) {
  HfComparison result = CompareModels(folder.hf, ours);
  if (!result.problems.empty()) {
    Fail(ExitCode::kConfig,
         "{}: a model of another shape; {} difference(s):\n  {}",
         folder.path,
         result.problems.size(),
         fmt::join(result.problems, "\n  "));
  }
  return std::move(result.notes);
}

FolderTokenizer OpenTokenizerOfFolder(const std::string& path) {
  FolderTokenizer found;
  found.why = "the folder has no tokenizer that is read here";
  for (const char* name : {"tokenizer.model", "tokenizer.json"}) {
    found.path = path + "/" + name;
    if (!IsFile(found.path)) {
      continue;
    }
    if (IsExportedByteTokenizer(ReadSmallFile(found.path))) {
      found.tokenizer = MakeByteTokenizer();
      return found;
    }
    try {
      found.tokenizer = OpenTokenizer(found.path);
      return found;
    } catch (const Error& error) {
      found.why = fmt::format("{:.300}", error.what());
    }
  }
  return found;
}

}  // namespace ksa
