#include "trainer/interop/load_weights.h"

#include <memory>
#include <utility>

#include <fmt/ranges.h>

#include "kernels/core/error.h"
#include "trainer/checkpoint/checkpoint_source.h"

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
  for (const std::string& name : adapted.unused) {
    differences.push_back(name + ": not in the model");
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
