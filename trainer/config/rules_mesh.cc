// What a model, its sequences and its batch can be divided into: the rules of `parallel`.
#include <algorithm>
#include <numeric>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "model/mixers/registry.h"
#include "trainer/config/rules.h"

namespace ksa {
namespace {

constexpr const char* kTensor = "parallel.tensor";
constexpr const char* kContext = "parallel.context";
constexpr size_t kMostListed = 12;
constexpr int32_t kMostTensorRanks = 1024;  // that a message names: what layers share, of whatever kind, are heads

// Empty, or why the model's matrices cannot be divided among `tensor` ranks: each layer has its conditions, and every
// rank has something to do.
std::string TensorProblem(const ModelConfig& model, int32_t tensor) {
  for (const LayerSpec& layer : model.layers) {
    if (std::string problem = layer->TensorProblem(model, tensor); !problem.empty()) {
      return problem;
    }
  }
  if (model.intermediate_size > 0 && tensor > model.intermediate_size) {
    return fmt::format("{} ranks cannot share {} columns of intermediate_size", tensor, model.intermediate_size);
  }
  if (tensor > model.vocab_size) {
    return fmt::format("{} ranks cannot share {} rows of vocab_size", tensor, model.vocab_size);
  }
  return {};
}

int32_t ChunkCount(const Config& config) {
  const int32_t chunk = std::max(1, config.model.ChunkSize());
  return static_cast<int32_t>((int64_t{config.training.sequence_length} + chunk - 1) / chunk);
}

// A rank holds two slices of a sequence, each of at least one whole chunk.
int32_t MostContextRanks(const Config& config) {
  return std::max(1, ChunkCount(config) / 2);
}

// As many as fit into a line, then how many more there are.
std::string Listed(const std::vector<std::string>& items) {
  const size_t shown = std::min(items.size(), kMostListed);
  const std::string text =
      fmt::format("{}", fmt::join(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(shown), ", "));
  return shown == items.size() ? text : fmt::format("{} and {} more", text, items.size() - shown);
}

std::string TensorSizes(const ModelConfig& model) {
  std::vector<std::string> sizes;
  for (int32_t tensor = 1; tensor <= kMostTensorRanks; ++tensor) {
    if (TensorProblem(model, tensor).empty()) {
      sizes.push_back(std::to_string(tensor));
    }
  }
  return Listed(sizes);
}

// The meshes of `ranks` ranks that nothing speaks against, "data x context x tensor" each.
std::vector<std::string> ValidMeshes(const Config& config, int ranks) {
  std::vector<std::string> meshes;
  const int64_t micro_batches = config.training.global_batch_size / config.training.micro_batch_size.value_or(1);
  for (int32_t tensor = 1; tensor <= ranks; ++tensor) {
    if (ranks % tensor != 0 || !TensorProblem(config.model, tensor).empty()) {
      continue;
    }
    const int32_t rest = ranks / tensor;
    for (int32_t context = 1; context <= std::min(rest, MostContextRanks(config)); ++context) {
      if (rest % context == 0 && micro_batches % (rest / context) == 0) {
        meshes.push_back(fmt::format("{} x {} x {}", rest / context, context, tensor));
      }
    }
  }
  return meshes;
}

std::string OtherMeshes(const Config& config, int ranks) {
  const std::vector<std::string> meshes = ValidMeshes(config, ranks);
  return meshes.empty() ? fmt::format("no mesh of {} ranks fits this model, sequence and batch", ranks)
                        : fmt::format("meshes of {} ranks (data x context x tensor): {}", ranks, Listed(meshes));
}

}  // namespace

std::string TensorRanksProblem(const ModelConfig& model, int32_t ranks) {
  const std::string problem = TensorProblem(model, ranks);
  return problem.empty() ? problem : fmt::format("{}; this model takes {}", problem, TensorSizes(model));
}

void CheckMeshRules(const RuleCheck& check) {
  const ParallelConfig& parallel = check.draft.config.parallel;
  const Config config = ResolveDefaults(check.draft);
  if (check.given.Usable({kTensor,
                          "model.num_attention_heads",
                          "model.num_key_value_heads",
                          "model.intermediate_size",
                          "model.vocab_size",
                          "model.num_hidden_layers",
                          "model.attention.pattern"})) {
    if (const std::string problem = TensorRanksProblem(config.model, parallel.tensor); !problem.empty()) {
      check.Fail({kTensor}, problem);
    }
  }
  std::vector<std::string> chunks = {
      kContext, "training.sequence_length", "model.num_hidden_layers", "model.attention.pattern"};
  for (const MixerKind* kind : MixerKinds()) {
    if (const std::optional<ChunkKey> chunk = kind->Chunk(config.model)) {
      chunks.push_back(FullPath(chunk->path));
    }
  }
  if (check.given.Usable(chunks) && parallel.context > MostContextRanks(config)) {
    check.Fail({kContext},
               fmt::format("{} ranks hold two slices of whole chunks each, but {} tokens are {} chunk(s) of {}; use at "
                           "most {}, smaller chunks or longer sequences",
                           parallel.context,
                           config.training.sequence_length,
                           ChunkCount(config),
                           std::max(1, config.model.ChunkSize()),
                           MostContextRanks(config)));
  }
  if (check.given.Usable({"parallel.sequence_parallel", kTensor}) && parallel.tensor == 1 &&
      check.draft.sequence_parallel.value_or(false)) {
    check.Fail({"parallel.sequence_parallel"}, "needs tensor > 1; remove it");
  }
}

std::vector<std::string> MeshProblems(const Config& config, int ranks) {
  const ParallelConfig& parallel = config.parallel;
  const int64_t model_ranks = int64_t{1} * parallel.tensor * parallel.context;
  if (!parallel.data && ranks % model_ranks != 0) {
    return {
        fmt::format("parallel: {} rank(s) are no multiple of context {} x tensor {}; start a multiple of {} or change "
                    "them; {}",
                    ranks,
                    parallel.context,
                    parallel.tensor,
                    model_ranks,
                    OtherMeshes(config, ranks))};
  }
  if (parallel.data && *parallel.data * model_ranks != ranks) {
    return {
        fmt::format("parallel: data {} x context {} x tensor {} is not the number of ranks, {}; start {} ranks or "
                    "change them; {}",
                    *parallel.data,
                    parallel.context,
                    parallel.tensor,
                    ranks,
                    *parallel.data * model_ranks,
                    OtherMeshes(config, ranks))};
  }
  const int64_t data = ranks / model_ranks;
  if (config.training.global_batch_size % (config.training.micro_batch_size.value_or(1) * data) != 0) {
    return {fmt::format("training.global_batch_size: {} is not a multiple of {}{} data ranks; change one of them; {}",
                        config.training.global_batch_size,
                        config.training.micro_batch_size
                            ? fmt::format("micro_batch_size {} x ", *config.training.micro_batch_size)
                            : "",
                        data,
                        OtherMeshes(config, ranks))};
  }
  return {};
}

std::vector<std::string> WhyNotMesh(const Config& config, int ranks) {
  const Draft draft = ToDraft(config);
  Problems broken;
  Given given;
  given.sections["parallel"].source = broken.AddFile("this mesh");
  CheckMeshRules({draft, given, broken});
  std::vector<std::string> problems = MeshProblems(config, ranks);
  if (!broken.empty()) {
    problems.insert(problems.begin(), broken.Report());
  }
  return problems;
}

}  // namespace ksa
