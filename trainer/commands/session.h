// What commands that compute share: a configuration or a checkpoint becomes ranks, model and weights.
#pragma once

#include <memory>
#include <string>

#include "data/tokenizers/tokenizer.h"
#include "model/ksa/model.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/commands/device_option.h"
#include "trainer/commands/ranks_of_command.h"
#include "trainer/config/config.h"
#include "trainer/step/runtime.h"

namespace ksa {

// The model of a checkpoint with its weights: in this process alone, or each tensor rank with its part of them.
class LoadedModel {
 public:
  // `path`: a checkpoint, a run folder or its checkpoints folder. Errors as OpenCheckpoint, and kBadData when the
  // configuration in it cannot be read, and kConfig when it cannot run on the device that is asked for.
  // With `rank`, which outlives the model, all ranks make theirs together; kConfig as well where they cannot share it.
  LoadedModel(const std::string& path, const DeviceOption& device, const RankOfCommand* rank = nullptr);

  [[nodiscard]] const Checkpoint& checkpoint() const { return checkpoint_; }

  [[nodiscard]] const Config& config() const { return config_; }

  [[nodiscard]] Runtime& runtime() { return runtime_; }

  [[nodiscard]] KsaModel& model() { return *model_; }

  // The weight a of the annealing mix at the checkpoint's update.
  [[nodiscard]] double mix() const;
  // The tokenizer that the checkpoint or the run's folder keeps. Error(kMissingInput) when it is not there, kBadData
  // when it has more tokens than the model.
  [[nodiscard]] std::unique_ptr<Tokenizer> OpenRunTokenizer() const;

  // The same where ids alone are asked for: of a run without one, all ids of the model, of which none ends a text.
  [[nodiscard]] std::unique_ptr<Tokenizer> OpenRunTokenizerOrIds() const;

 private:
  Checkpoint checkpoint_;
  Config config_;
  std::unique_ptr<Communicator> self_;  // without ranks
  Runtime runtime_;
  std::unique_ptr<ParameterStore> store_;
  std::unique_ptr<KsaModel> model_;
};

}  // namespace ksa
