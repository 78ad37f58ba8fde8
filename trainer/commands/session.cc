#include "trainer/commands/session.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "model/ksa/parameters.h"
#include "trainer/checkpoint/run_tokenizer.h"
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
  const std::optional<std::string> path = FindTokenizerFile(checkpoint_);
  if (!path.has_value()) {
    Fail(ExitCode::kMissingInput,
         "{}: neither this checkpoint nor its run's folder, two above, holds a {}; copy it from the shard folder",
         checkpoint_.path,
         fmt::join(kTokenizerFiles, ", "));
  }
  std::unique_ptr<Tokenizer> tokenizer = OpenTokenizer(*path);
  if (tokenizer->vocab_size() > config_.model.vocab_size) {
    Fail(ExitCode::kBadData,
         "{}: a tokenizer of {} tokens, while the model of {} has {}; it is not the run's",
         *path,
         tokenizer->vocab_size(),
         checkpoint_.path,
         config_.model.vocab_size);
  }
  return tokenizer;
}

std::unique_ptr<Tokenizer> LoadedModel::OpenRunTokenizerOrIds() const {
  if (FindTokenizerFile(checkpoint_).has_value()) {
    return OpenRunTokenizer();
  }
  return MakeExternalTokenizer("ids", config_.model.vocab_size, -1);
}

}  // namespace ksa
