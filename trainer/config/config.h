// Config: everything a run is told, every default resolved. Plain values; trainer/config/load.h makes them from YAML.
// Keys, types, defaults: docs/configuration.md. What stays open until the device or the number of ranks is known is
// kAuto or an empty optional here, and is filled in by ResolveDevice, CheckAgainstRanks and ResolveMicroBatch.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/loader/data_config.h"
#include "kernels/core/dtype.h"
#include "model/ksa/parameters.h"
#include "model/mixers/model_config.h"

namespace ksa {

enum class DeviceChoice : int { kAuto, kCpu, kCuda };
enum class ScheduleKind : int { kWsd, kCosine, kConstant };
enum class DecayShape : int { kLinear, kSqrt };

// How checkpoint.load makes parameters that its source lacks: from others of the source, or with initial values.
enum class NewParameters : int { kCopy, kInit };

// What becomes of an update whose loss or gradient norm is not finite: the run ends, or goes on without it.
enum class OnNonfinite : int { kAbort, kSkip };

struct RunConfig {
  std::string name;
  std::string dir;  // run folder, relative to the working directory
  uint64_t seed = 1234;
  DeviceChoice device = DeviceChoice::kAuto;
  bool deterministic = true;
  std::optional<int32_t> threads;          // none: the cores this rank may use
  std::optional<double> max_wall_minutes;  // after the program's start; none: no limit

  friend bool operator==(const RunConfig&, const RunConfig&) = default;
};

struct DataConfig {
  std::vector<TrainSource> train;  // at least one
  std::vector<ValidationSource> validation;
  bool document_mask = false;
  OnCorrupt on_corrupt = OnCorrupt::kAbort;

  friend bool operator==(const DataConfig&, const DataConfig&) = default;
};

// Self-distillation: the weights of the loss's terms.
struct DistillConfig {
  double f_lm = 1.0;
  double f_kl = 5.0;
  double f_attn = 5.0;
  bool normalize = false;  // attention outputs are compared by direction

  friend bool operator==(const DistillConfig&, const DistillConfig&) = default;
};

struct TrainingConfig {
  int32_t sequence_length = 0;                  // T, text tokens
  int32_t global_batch_size = 0;                // sequences an update
  std::optional<int32_t> micro_batch_size = 1;  // sequences a forward pass of a rank; none until ResolveMicroBatch
  int64_t max_steps = 0;                        // updates; from max_tokens if that was given
  std::optional<int64_t> hard_stop;             // update after which the run ends, schedule unchanged
  std::optional<DType> precision;               // none until ResolveDevice: fp32 on CPU, bf16 on CUDA
  Recompute recompute = Recompute::kNone;
  OnNonfinite on_nonfinite = OnNonfinite::kAbort;
  double spike_factor = 0.0;  // times the median norm, above which an update is skipped; 0: off
  int64_t max_skips = 10;     // in a row
  Trainable trainable = Trainable::kAll;
  std::optional<DistillConfig> distill;
  double z_loss = 0.0;  // 0: off

  friend bool operator==(const TrainingConfig&, const TrainingConfig&) = default;
};

struct OptimizerConfig {
  double lr = 0.0;
  double min_lr = 0.0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double clip_grad_norm = 1.0;  // 0: off

  friend bool operator==(const OptimizerConfig&, const OptimizerConfig&) = default;
};

struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::kWsd;
  int64_t warmup_steps = 0;
  int64_t decay_steps = 0;                 // wsd only
  DecayShape decay = DecayShape::kLinear;  // wsd only

  friend bool operator==(const ScheduleConfig&, const ScheduleConfig&) = default;
};

struct ParallelConfig {
  int32_t tensor = 1;
  int32_t context = 1;
  std::optional<int32_t> data;  // none until CheckAgainstRanks: ranks / (tensor x context)
  bool sequence_parallel = false;
  int32_t zero = 1;

  friend bool operator==(const ParallelConfig&, const ParallelConfig&) = default;
};

struct CheckpointConfig {
  int64_t interval = 1000;  // updates
  int32_t keep_last = 2;
  int64_t keep_every = 0;  // updates; checkpoints of its multiples stay for good; 0: none
  bool async = true;
  std::string resume = "auto";      // "auto", "never" or the path of a checkpoint
  std::optional<std::string> load;  // a checkpoint or Hugging Face folder whose weights are taken
  NewParameters new_parameters = NewParameters::kCopy;
  std::vector<std::string> allow_change;
  int32_t retries = 5;     // further tries of a save that failed
  bool export_hf = false;  // a Hugging Face folder beside the last checkpoint

  friend bool operator==(const CheckpointConfig&, const CheckpointConfig&) = default;
};

// A task whose accuracy is measured while a run trains.
struct EvaluationTask {
  TaskSpec task;
  std::string name;  // the task's where none is given
  int64_t samples = 256;

  friend bool operator==(const EvaluationTask&, const EvaluationTask&) = default;
};

struct EvaluationConfig {
  int64_t interval = 0;                // updates; 0: off
  std::optional<int32_t> batches = 8;  // global batches a validation source; none: all of it
  std::vector<EvaluationTask> tasks;

  friend bool operator==(const EvaluationConfig&, const EvaluationConfig&) = default;
};

struct LoggingConfig {
  int64_t interval = 1;  // updates
  bool tensorboard = true;

  friend bool operator==(const LoggingConfig&, const LoggingConfig&) = default;
};

struct Config {
  RunConfig run;
  ModelConfig model;
  DataConfig data;
  TrainingConfig training;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  ParallelConfig parallel;
  CheckpointConfig checkpoint;
  EvaluationConfig evaluation;
  LoggingConfig logging;

  friend bool operator==(const Config&, const Config&) = default;
};

}  // namespace ksa
