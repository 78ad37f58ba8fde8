#include "trainer/interop/load_weights.h"

#include <algorithm>
#include <memory>
#include <utility>

#include <fmt/ranges.h>

#include "kernels/core/error.h"
#include "model/ksa/model.h"
#include "trainer/checkpoint/checkpoint_source.h"
#include "trainer/config/load.h"

namespace ksa {
namespace {

std::vector<ParameterSpec> SpecsOf(const ParameterStore& store) {
  std::vector<ParameterSpec> specs;
  for (const Parameter& parameter : store.parameters()) {
    specs.push_back(parameter.spec);
  }
  return specs;
}

void AddLines(std::vector<std::string>& lines, const char* what, const std::vector<std::string>& items) {
  for (const std::string& item : items) {
    lines.push_back(fmt::format("checkpoint.load: {}{}", what, item));
  }
}

// Whether the summaries' own projections had no part any more when the checkpoint was written.
bool IsAnnealed(const Checkpoint& checkpoint) {
  const CheckpointMeta& meta = checkpoint.manifest.meta;
  const ModelConfig model = ParseConfig(meta.configuration, checkpoint.path).config.model;
  return model.HasSummaryRows() && AnnealMix(model, meta.step) == 0.0;
}

// Of summaries: what annealing puts out of use, their projections and the norms behind these.
bool IsOwnProjection(const std::string& name) {
  return name.find("_proj_summary.") != std::string::npos || name.find(".q_norm_summary.") != std::string::npos ||
         name.find(".k_norm_summary.") != std::string::npos;
}

}  // namespace

std::vector<std::string> LoadFromCheckpoint(ParameterStore& store,
                                            const Checkpoint& checkpoint,
                                            const AdaptOptions& options,
                                            const Stream& stream) {
  auto weights = std::make_shared<WeightsOfCheckpoint>(checkpoint);
  std::vector<std::string> differences;
  for (const TensorInfo& tensor : weights->tensors()) {
    if (tensor.dtype != store.state_dtype()) {
      differences.push_back(fmt::format("{}: {} in the checkpoint, {} in the model (training.precision)",
                                        tensor.name,
                                        NameOf(tensor.dtype),
                                        NameOf(store.state_dtype())));
    }
  }
  Adapted adapted = AdaptTo(SpecsOf(store), std::move(weights), options);
  const bool annealed =
      std::any_of(adapted.unused.begin(), adapted.unused.end(), IsOwnProjection) && IsAnnealed(checkpoint);
  std::vector<std::string> left;
  for (const std::string& name : adapted.unused) {
    if (annealed && IsOwnProjection(name)) {
      left.push_back(name + " (annealed: it has no part any more)");
    } else {
      differences.push_back(name + ": not in the model");
    }
  }
  if (!differences.empty()) {
    Fail(ExitCode::kConfig,
         "{}: a checkpoint of another model; {} difference(s):\n  {}",
         checkpoint.path,
         differences.size(),
         fmt::join(differences, "\n  "));
  }
  LoadWeights(store, *adapted.source, stream);
  std::vector<std::string> lines;
  AddLines(lines, "made ", adapted.made);
  AddLines(lines, "unused ", left);
  return lines;
}

std::vector<std::string> LoadFromFolder(ParameterStore& store,
                                        const ModelConfig& model,
                                        const std::string& path,
                                        const AdaptOptions& options,
                                        const Stream& stream) {
  const HfFolder folder = OpenHfFolder(path);
  std::vector<std::string> lines;
  AddLines(lines, "", CheckHfModel(folder, model));
  const Adapted adapted = AdaptTo(SpecsOf(store), folder.weights, options);
  LoadWeights(store, *adapted.source, stream);
  AddLines(lines, "made ", adapted.made);
  AddLines(lines, "unused ", folder.unused);
  AddLines(lines, "unused ", adapted.unused);
  return lines;
}

}  // namespace ksa
