#include "trainer/interop/import_hf.h"

#include <algorithm>
#include <utility>

#include <xxhash.h>

#include "kernels/core/error.h"
#include "model/ksa/parameters.h"
#include "trainer/checkpoint/checkpoint_sink.h"
#include "trainer/config/load.h"
#include "trainer/config/read_file.h"
#include "trainer/interop/adapt.h"

namespace ksa {
namespace {

// A configuration around a model that nobody has trained here: what a checkpoint must carry. Other commands read the
// model of it, its sequence length and its precision.
Config ConfigAround(const ModelConfig& model, bool fp64) {
  Config config;
  config.run.name = "imported";
  config.run.dir = "runs/imported";
  config.model = model;
  config.data.train = {{.path = "data/none", .weight = 1, .name = "none"}};
  config.training.sequence_length = model.max_position_embeddings;
  config.training.global_batch_size = 1;
  config.training.max_steps = 1;
  config.training.precision = fp64 ? DType::kF64 : DType::kF32;
  config.optimizer.lr = 1e-4;
  config.optimizer.min_lr = 1e-5;
  return config;
}

bool IsRunConfiguration(const std::string& text) {
  return text.starts_with("run:") || text.find("\nrun:") != std::string::npos || text.find("include:") == 0 ||
         text.find("\ninclude:") != std::string::npos;
}

Config ConfigOf(const HfFolder& folder, const std::optional<std::string>& path) {
  if (!path) {
    return ConfigAround(folder.hf.model, folder.all_fp64);
  }
  if (IsRunConfiguration(ReadConfigFile(*path))) {
    Config config = LoadConfig(*path).config;
    ResolveDevice(config, false);
    return config;
  }
  return ConfigAround(LoadModelConfig(*path, folder.hf.model.max_position_embeddings), folder.all_fp64);
}

}  // namespace

ImportReport ImportHf(const std::string& folder,
                      const std::string& output,
                      const std::optional<std::string>& config_path) {
  const HfFolder source = OpenHfFolder(folder);
  const Config config = ConfigOf(source, config_path);
  ImportReport report;
  report.layout = source.hf.layout;
  report.notes = CheckHfModel(source, config.model);
  const AdaptOptions options{.new_parameters = config.checkpoint.new_parameters, .seed = config.run.seed};
  Adapted adapted = AdaptTo(ParameterSpecs(config.model), source.weights, options);
  report.made = std::move(adapted.made);
  report.unused = source.unused;
  report.unused.insert(report.unused.end(), adapted.unused.begin(), adapted.unused.end());

  const DType state = AccumulationType(config.training.precision.value_or(DType::kF32));
  std::vector<TensorInfo> tensors = adapted.source->tensors();
  for (TensorInfo& tensor : tensors) {
    tensor.dtype = state;
    report.parameters += tensor.size();
  }
  CheckpointMeta meta;
  meta.configuration = RenderConfig(config);
  meta.run_id = fmt::format("{:016x}", XXH3_64bits(meta.configuration.data(), meta.configuration.size()));
  meta.step = config_path ? 0 : source.hf.step;
  meta.data_fingerprint = "imported";
  std::optional<TokenizerFile> tokenizer;
  if (const FolderTokenizer found = OpenTokenizerOfFolder(folder); found.tokenizer != nullptr) {
    tokenizer = TokenizerFile{found.tokenizer->file_name(), found.tokenizer->file_contents()};
  } else {
    report.notes.push_back("the checkpoint gets no tokenizer: " + found.why);
  }
  CheckpointSink sink(output, std::move(tensors), std::move(meta), tokenizer);
  CopyTensors(*adapted.source, sink);
  return report;
}

}  // namespace ksa
