// What becomes known when the program runs: its device, its ranks, the checkpoint it resumes from.
#include <algorithm>
#include <cmath>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "data/sampling/sample_order.h"
#include "data/tasks/task.h"
#include "kernels/core/error.h"
#include "trainer/config/load.h"
#include "trainer/config/rules.h"
#include "trainer/config/schema.h"

namespace ksa {
namespace {

// A default that follows from another key, and still does in both.
bool Follows(const std::string& key, const Config& config) {
  if (key == "schedule.decay_steps") {
    return config.schedule.decay_steps == config.training.max_steps / 10;
  }
  return key == "optimizer.min_lr" && config.optimizer.min_lr == config.optimizer.lr / 10;
}

bool Listed(const Config& config, const std::string& key) {
  const std::vector<std::string>& list = config.checkpoint.allow_change;
  return std::find(list.begin(), list.end(), key) != list.end();
}

// max_steps may be changed through max_tokens, and defaults follow their keys.
bool IsAllowed(const std::string& key, const Config& old_config, const Config& new_config) {
  const bool steps = Listed(new_config, "training.max_steps") || Listed(new_config, "training.max_tokens");
  if (Listed(new_config, key) || (key == "training.max_steps" && steps)) {
    return true;
  }
  const bool source = key == "schedule.decay_steps" ? steps : Listed(new_config, "optimizer.lr");
  return source && Follows(key, old_config) && Follows(key, new_config);
}

// Sources in the same order with the same weights draw the same samples, if the shards are the same. A task and its
// name are what its samples are.
bool SameWeights(const std::vector<TrainSource>& one, const std::vector<TrainSource>& other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end(), [](const TrainSource& a, const TrainSource& b) {
    return a.weight == b.weight && a.task == b.task && (a.task.kind.empty() || a.name == b.name);
  });
}

bool MayChange(const Key& key, const Config& old_config, const Config& new_config) {
  switch (key.change) {
    case ChangeClass::kFree:
      return true;
    case ChangeClass::kNeedsAllowChange:
      return IsAllowed(key.path, old_config, new_config);
    case ChangeClass::kContent:
      return SameWeights(old_config.data.train, new_config.data.train);
    case ChangeClass::kRefused:
      return false;
  }
  return false;
}

// What to do about a difference that is not allowed.
std::string AdviceOf(const ConfigDifference& difference) {
  switch (difference.change) {
    case ChangeClass::kNeedsAllowChange:
      return fmt::format("set it back, or list {} in checkpoint.allow_change", difference.key);
    case ChangeClass::kContent:
      return "a resume may change paths and names of folders, but neither the number of sources nor their weights, nor "
             "a task, its keys and its name: set these back, or start a run in another run.dir";
    default:
      return "a resume cannot change it: set it back, or start a run in another run.dir";
  }
}

}  // namespace

bool BuildHasCuda() {
#ifdef KSA_HAVE_CUDA
  return true;
#else
  return false;
#endif
}

void ResolveDevice(Config& config, bool cuda_available) {
  if (config.run.device == DeviceChoice::kAuto) {
    const bool cuda = BuildHasCuda() && cuda_available && config.training.precision != DType::kF64;
    config.run.device = cuda ? DeviceChoice::kCuda : DeviceChoice::kCpu;
  }
  if (config.run.device == DeviceChoice::kCuda && !cuda_available) {
    Fail(ExitCode::kConfig, "run.device: cuda, but no GPU is visible; use auto or cpu, or look at nvidia-smi");
  }
  if (config.run.device == DeviceChoice::kCuda) {
    const std::string problem = config.model.GpuProblem();
    if (!problem.empty()) {
      Fail(ExitCode::kConfig, "run.device: {}", problem);
    }
  }
  if (!config.training.precision) {
    config.training.precision = config.run.device == DeviceChoice::kCuda ? DType::kBF16 : DType::kF32;
  }
}

void ResolvePools(Config& config) {
  constexpr double kGrows = 0.6;  // the part of the run over which the pool grows
  std::vector<SourceShape> shapes;
  for (const TrainSource& source : config.data.train) {
    shapes.push_back({source.name, source.weight, {}});
  }
  const std::vector<int> shares = BlendShares(shapes);
  const double samples = static_cast<double>(config.training.max_steps) * config.training.global_batch_size;
  for (size_t s = 0; s < shares.size(); ++s) {
    TaskSpec& task = config.data.train[s].task;
    const TaskKind* kind = FindTaskKind(task.kind);
    if (kind != nullptr && kind->FindKey("pool_samples") != nullptr && !task.Has("pool_samples")) {
      const double grows = std::floor(kGrows * samples * shares[s] / static_cast<double>(kBlendSlots));
      task.values["pool_samples"] = {std::min(grows, 0x1p53)};
      task.pool_follows = true;
    }
  }
}

void CheckAgainstRanks(Config& config, int world_size) {
  if (const std::vector<std::string> problems = MeshProblems(config, world_size); !problems.empty()) {
    Fail(ExitCode::kConfig, "{}", fmt::join(problems, "\n"));
  }
  config.parallel.data = world_size / (config.parallel.tensor * config.parallel.context);
}

std::vector<ConfigDifference> DiffConfigs(const Config& old_config, const Config& new_config) {
  Draft old_draft = ToDraft(old_config);
  Draft new_draft = ToDraft(new_config);
  std::vector<ConfigDifference> differences;
  for (const Key& key : Schema()) {
    const std::string old_value = key.write(old_draft);
    const std::string new_value = key.write(new_draft);
    if (old_value != new_value) {
      differences.push_back({key.path, old_value, new_value, key.change, MayChange(key, old_config, new_config)});
    }
  }
  return differences;
}

void CheckResume(const std::vector<ConfigDifference>& differences) {
  std::string report;
  for (const ConfigDifference& difference : differences) {
    if (!difference.allowed) {
      report += fmt::format("{}{}: the checkpoint has {}, the configuration {}; {}",
                            report.empty() ? "" : "\n",
                            difference.key,
                            difference.old_value,
                            difference.new_value,
                            AdviceOf(difference));
    }
  }
  if (!report.empty()) {
    throw Error(ExitCode::kConfig, report);
  }
}

}  // namespace ksa
