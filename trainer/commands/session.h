// What commands that compute share: a configuration or a checkpoint becomes ranks, model and weights.
#pragma once

#include <memory>
#include <string>

#include "data/tokenizers/tokenizer.h"
#include "model/ksa/model.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/config/config.h"
#include "trainer/loop/runtime.h"

namespace ksa {

// The model of a checkpoint with its weights, in this process alone.
class LoadedModel {
 public:
  // `path`: a checkpoint, a run folder or its checkpoints folder. Errors as OpenCheckpoint, and kBadData when the
  // configuration in it cannot be read. `threads` 0: all cores this process may use.
  LoadedModel(const std::string& path, int threads);

  [[nodiscard]] const Checkpoint& checkpoint() const { return checkpoint_; }

  [[nodiscard]] const Config& config() const { return config_; }

  [[nodiscard]] Runtime& runtime() { return runtime_; }

  [[nodiscard]] KsaModel& model() { return *model_; }

  // The weight a of the annealing mix at the checkpoint's update.
  [[nodiscard]] double mix() const;
  // The tokenizer that the run's folder keeps. Error(kMissingInput) when it is not there.
  [[nodiscard]] std::unique_ptr<Tokenizer> OpenRunTokenizer() const;

 private:
  std::unique_ptr<Communicator> world_;
  Runtime runtime_;
  Checkpoint checkpoint_;
  Config config_;
  std::unique_ptr<ParameterStore> store_;
  std::unique_ptr<KsaModel> model_;
};

}  // namespace ksa
