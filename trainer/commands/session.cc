#include "trainer/commands/session.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "model/ksa/parameters.h"
#include "trainer/checkpoint/run_tokenizer.h"
#include "trainer/config/load.h"
#include "trainer/config/rules.h"

namespace ksa {

namespace {

// The configuration in a checkpoint; over several ranks all of them are tensor ranks.
Config ConfigOf(const Checkpoint& checkpoint, const RankOfCommand* rank) {
  Config config = ParseConfig(checkpoint.manifest.meta.configuration, checkpoint.path + "/manifest.json").config;
  if (rank != nullptr) {
    const int ranks = rank->world.size();
    if (const std::string problem = TensorRanksProblem(config.model, ranks); !problem.empty()) {
      Fail(ExitCode::kConfig, "{} ranks: {}", ranks, problem);
    }
    config.parallel = {.tensor = ranks, .data = 1};
  }
  return config;
}

RuntimeOptions OptionsOf(const DeviceOption& device, DType precision, const RankOfCommand* rank) {
  RuntimeOptions options = device.Options(precision);
  if (rank != nullptr) {
    options.mesh = MeshShape{.tensor = rank->world.size()};
    options.ordinal = rank->mpi.local_rank();
    options.local_size = rank->mpi.local_size();
  }
  return options;
}

}  // namespace

LoadedModel::LoadedModel(const std::string& path, const DeviceOption& device, const RankOfCommand* rank)
    : checkpoint_(OpenCheckpoint(path)),
      config_(ConfigOf(checkpoint_, rank)),
      self_(rank == nullptr ? MakeSelfCommunicator() : nullptr),
      runtime_(rank == nullptr ? *self_ : rank->world, OptionsOf(device, *config_.training.precision, rank)) {
  if (rank != nullptr) {
    runtime_.SetWatchdog(&rank->watchdog);
  }
  const ProcessMesh& mesh = runtime_.mesh();
  const FlatSharding sharding = {
      .tensor_parts = mesh.Size(MeshAxis::kTensor), .tensor_rank = mesh.Rank(MeshAxis::kTensor), .weights_alone = true};
  CheckSameModel(
      ParameterSpecs(config_.model), AccumulationType(*config_.training.precision), checkpoint_, LoadParts::kWeights);
  store_ = std::make_unique<ParameterStore>(ParameterSpecs(config_.model, sharding.tensor_parts),
                                            *config_.training.precision,
                                            runtime_.allocator(),
                                            sharding,
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
