#include "trainer/commands/session.h"

#include <algorithm>
#include <filesystem>

#include "data/files/paths.h"
#include "model/ksa/parameters.h"
#include "trainer/config/load.h"

namespace ksa {

LoadedModel::LoadedModel(const std::string& path, const DeviceOption& device)
    : checkpoint_(OpenCheckpoint(path)),
      config_(ParseConfig(checkpoint_.manifest.meta.configuration, checkpoint_.path + "/manifest.json").config),
      world_(MakeSelfCommunicator()),
      runtime_(*world_, device.Options(*config_.training.precision)) {
  CheckSameModel(
      ParameterSpecs(config_.model), AccumulationType(*config_.training.precision), checkpoint_, LoadParts::kWeights);
  store_ = std::make_unique<ParameterStore>(ParameterSpecs(config_.model),
                                            *config_.training.precision,
                                            runtime_.allocator(),
                                            FlatSharding{},
                                            runtime_.stream());
  const int64_t positions = std::max(config_.training.sequence_length, config_.model.max_position_embeddings);
  model_ = std::make_unique<KsaModel>(config_.model, *store_, runtime_.allocator(), runtime_.stream(), positions);
  LoadInto(*store_, checkpoint_, LoadParts::kWeights, runtime_.stream());
}

double LoadedModel::mix() const {
  return AnnealMix(config_.model, checkpoint_.manifest.meta.step);
}

std::unique_ptr<Tokenizer> LoadedModel::OpenRunTokenizer() const {
  // <run>/checkpoints/step_00001000: the run's folder keeps a copy of the tokenizer's file.
  const std::filesystem::path run = std::filesystem::absolute(checkpoint_.path).parent_path().parent_path();
  for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
    if (Exists((run / name).string())) {
      return OpenTokenizer(run / name);
    }
  }
  Fail(ExitCode::kMissingInput,
       "no tokenizer.json or tokenizer.model in the run folder {} of checkpoint {}; copy it from the shard folder",
       run.string(),
       checkpoint_.path);
}

}  // namespace ksa
