#include "trainer/loop/schedule_jump.h"

#include <filesystem>

#include <fmt/core.h>

#include "trainer/checkpoint/folder.h"
#include "trainer/config/load.h"
#include "trainer/optim/schedule.h"

namespace ksa {
namespace {

double RateOf(const Config& config, int64_t update) {
  return LearningRate(config.optimizer, config.schedule, config.training.max_steps, update);
}

// The last update before the decay; all of them where nothing decays.
int64_t LastBeforeDecay(const Config& config) {
  switch (config.schedule.kind) {
    case ScheduleKind::kWsd:
      return config.training.max_steps - config.schedule.decay_steps;
    case ScheduleKind::kCosine:
      return config.schedule.warmup_steps;
    case ScheduleKind::kConstant:
      break;
  }
  return config.training.max_steps;
}

// The newest checkpoint in the folder of `checkpoint` at or before `update`; empty where there is none.
std::string NewestUpTo(const Checkpoint& checkpoint, int64_t update) {
  const std::string folder = std::filesystem::path(WithoutSlash(checkpoint.path)).parent_path().string();
  std::string newest;
  for (const int64_t step : StepsIn(folder)) {
    if (step <= update) {
      newest = folder + "/" + CheckpointFolderName(step);
    }
  }
  return newest;
}

}  // namespace

std::string ScheduleJump(const Config& now, const Checkpoint& checkpoint) {
  const CheckpointMeta& meta = checkpoint.manifest.meta;
  const Config before = ParseConfig(meta.configuration, checkpoint.path + "/manifest.json").config;
  const double had = RateOf(before, meta.step);
  const double gets = RateOf(now, meta.step + 1);
  const int64_t last = LastBeforeDecay(before);
  if (meta.step <= last || meta.step >= now.training.max_steps || gets <= had) {
    return {};
  }
  const std::string other = NewestUpTo(checkpoint, last);
  return fmt::format(
      "the learning rate jumps from {:.3g} after update {} to {:.3g}: its schedule was decaying since update {}, and "
      "is "
      "{} now. {}",
      had,
      meta.step,
      gets,
      last,
      before.training.max_steps == now.training.max_steps
          ? "another one"
          : fmt::format("{} updates long instead of {}", now.training.max_steps, before.training.max_steps),
      other.empty() ? "No checkpoint from before the decay is here; checkpoint.keep_every keeps some in other runs"
                    : fmt::format("{} is from before the decay: another run.dir with checkpoint.resume: {} extends the "
                                  "run without a jump",
                                  other,
                                  other));
}

}  // namespace ksa
