#include <algorithm>

#include <fmt/core.h>

#include "data/sampling/sample_order.h"
#include "kernels/core/error.h"
#include "model/mixers/registry.h"
#include "trainer/config/rules.h"

namespace ksa {
namespace {

template <typename Source>
void CheckNames(const RuleCheck& check, const std::string& list, const std::vector<Source>& sources) {
  if (!check.given.Usable({list})) {
    return;
  }
  for (size_t i = 0; i < sources.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (sources[i].name == sources[j].name) {
        check.problems.Add(
            check.given.PlaceOf({list}),
            fmt::format("{}[{}].name", list, i),
            fmt::format("{} is the name of source {} too; give each a name of its own", Quoted(sources[i].name), j));
        break;
      }
    }
  }
}

void CheckSources(const RuleCheck& check) {
  const DataConfig& data = check.draft.config.data;
  if (check.given.Usable({"data.train"})) {
    std::vector<SourceShape> shapes;
    for (const TrainSource& source : data.train) {
      shapes.push_back({source.name, source.weight, {}});
    }
    try {
      static_cast<void>(BlendShares(shapes));
    } catch (const Error& error) {
      const std::string message = error.what();
      const std::string prefix = "data.train: ";
      check.Fail({"data.train"}, message.starts_with(prefix) ? message.substr(prefix.size()) : message);
    }
  }
  CheckNames(check, "data.train", data.train);
  CheckNames(check, "data.validation", data.validation);
  CheckNames(check, "evaluation.tasks", check.draft.config.evaluation.tasks);
}

void CheckDevice(const RuleCheck& check) {
  const Config& config = check.draft.config;
  if (!check.given.Usable({"run.device"})) {
    return;
  }
  if (config.run.device == DeviceChoice::kCuda && !BuildHasCuda()) {
    check.Fail({"run.device"}, "this program was built without CUDA; use cpu or auto, or build the preset 'cuda'");
  }
  if (config.run.device == DeviceChoice::kCuda &&
      check.given.Usable({"model.attention.pattern", "model.num_hidden_layers"})) {
    const std::string problem = ResolveDefaults(check.draft).model.GpuProblem();
    if (!problem.empty()) {
      check.Fail({"run.device"}, problem);
    }
  }
  if (config.run.device == DeviceChoice::kCuda && config.training.precision == DType::kF64) {
    check.Fail({"training.precision"}, "fp64 runs on the CPU only; use bf16 or fp32, or run.device: cpu");
  }
}

void CheckBatch(const RuleCheck& check) {
  const Config& config = check.draft.config;
  if (!check.given.Usable({"training.global_batch_size", "training.micro_batch_size"})) {
    return;
  }
  const std::optional<int32_t>& micro = config.training.micro_batch_size;
  const int64_t ranks = check.given.Usable({"parallel.data"}) ? config.parallel.data.value_or(1) : 1;
  if (config.training.global_batch_size % (micro.value_or(1) * ranks) != 0) {
    const std::string size = micro ? fmt::format("micro_batch_size {}", *micro) : "";
    const std::string data = ranks > 1 ? fmt::format("{} data ranks", ranks) : "";
    check.Fail({"training.global_batch_size"},
               fmt::format("{} is not a multiple of {}{}{}; change one of them",
                           config.training.global_batch_size,
                           size,
                           micro && ranks > 1 ? " x " : "",
                           data));
  }
}

// The number of updates; 0 if it cannot be said.
int64_t MaxSteps(const RuleCheck& check) {
  const Draft& draft = check.draft;
  if (!check.given.Usable({"training.max_steps", "training.max_tokens"}) ||
      draft.max_steps.has_value() == draft.max_tokens.has_value()) {
    return 0;
  }
  const bool sized = check.given.Usable({"training.global_batch_size", "training.sequence_length"});
  return draft.max_steps || sized ? ResolveDefaults(draft).training.max_steps : 0;
}

void CheckLength(const RuleCheck& check) {
  const Draft& draft = check.draft;
  const Config& config = draft.config;
  if (!check.given.Usable({"training.max_steps", "training.max_tokens"})) {
    return;
  }
  if (!draft.max_steps && !draft.max_tokens) {
    check.Fail({"training.max_steps"}, "missing; give max_steps or max_tokens");
  }
  if (draft.max_steps && draft.max_tokens) {
    check.Fail({"training.max_tokens"}, "given beside max_steps; remove one of them or set it to none");
  }
  const int64_t max_steps = MaxSteps(check);
  if (max_steps > 0 && check.given.Usable({"training.global_batch_size", "training.sequence_length"})) {
    const double tokens =
        static_cast<double>(max_steps) * config.training.global_batch_size * config.training.sequence_length;
    if (tokens > static_cast<double>(kMostUpdates)) {
      check.Fail({"training.max_steps", "training.max_tokens"},
                 fmt::format("{} updates of {} x {} tokens are more than {} tokens; train for less",
                             max_steps,
                             config.training.global_batch_size,
                             config.training.sequence_length,
                             kMostUpdates));
    }
  }
}

void CheckSchedule(const RuleCheck& check) {
  const Draft& draft = check.draft;
  const int64_t max_steps = MaxSteps(check);
  if (max_steps > 0 && check.given.Usable({"schedule.kind", "schedule.warmup_steps", "schedule.decay_steps"})) {
    const int64_t warmup = draft.warmup_steps.Of(max_steps);
    const bool wsd = draft.config.schedule.kind == ScheduleKind::kWsd;
    const int64_t decay = wsd ? ResolveDefaults(draft).schedule.decay_steps : 0;
    if (warmup + decay > max_steps) {
      check.Fail({"schedule.warmup_steps", "schedule.decay_steps"},
                 wsd ? fmt::format("{} + decay_steps {}{} are more than max_steps {}; shorten one of them",
                                   warmup,
                                   decay,
                                   draft.decay_steps ? "" : " (max_steps / 10)",
                                   max_steps)
                     : fmt::format("{} is more than max_steps {}; shorten it", warmup, max_steps));
    }
  }
  if (draft.min_lr && check.given.Usable({"optimizer.min_lr", "optimizer.lr"}) &&
      *draft.min_lr > draft.config.optimizer.lr) {
    check.Fail({"optimizer.min_lr"},
               fmt::format("{} is greater than lr {}; lower it", *draft.min_lr, draft.config.optimizer.lr));
  }
}

void CheckCheckpoint(const RuleCheck& check) {
  const CheckpointConfig& checkpoint = check.draft.config.checkpoint;
  if (!check.given.Usable({"checkpoint.allow_change"})) {
    return;
  }
  for (size_t i = 0; i < checkpoint.allow_change.size(); ++i) {
    const std::string& name = checkpoint.allow_change[i];
    const Key* key = FindKey(name);
    if (key != nullptr && key->change != ChangeClass::kRefused) {
      continue;
    }
    check.problems.Add(check.given.PlaceOf({"checkpoint.allow_change"}),
                       fmt::format("checkpoint.allow_change[{}]", i),
                       key == nullptr ? AdviseUnknownPath(name)
                                      : fmt::format("no resume may change {}; start a new run instead", name));
  }
}

}  // namespace

bool Given::Usable(const std::vector<std::string>& names) const {
  return std::none_of(names.begin(), names.end(), [&](const std::string& name) { return bad.count(name) > 0; });
}

Place Given::PlaceOf(const std::vector<std::string>& names) const {
  for (const std::string& name : names) {
    if (const auto found = keys.find(name); found != keys.end()) {
      return found->second;
    }
  }
  std::string section = names.front();
  while (section.rfind('.') != std::string::npos) {
    section.resize(section.rfind('.'));
    if (const auto found = sections.find(section); found != sections.end()) {
      return found->second;
    }
  }
  return {};
}

void CheckRunRules(const Draft& draft, const Given& given, Problems& problems) {
  const RuleCheck check{draft, given, problems};
  CheckSources(check);
  CheckTaskRules(check);
  CheckDevice(check);
  CheckBatch(check);
  CheckLength(check);
  CheckSchedule(check);
  CheckNumbers(check);
  CheckMeshRules(check);
  CheckCheckpoint(check);
}

std::vector<std::string> Warnings(const Config& config) {
  std::vector<std::string> warnings = MixerWarnings(config.model, config.training.sequence_length);
  if (config.evaluation.interval > 0 && config.data.validation.empty() && config.evaluation.tasks.empty()) {
    warnings.push_back(
        "evaluation.interval: nothing is validated, because data.validation names no source and evaluation.tasks no "
        "task");
  }
  if (config.evaluation.interval == 0 && !config.evaluation.tasks.empty()) {
    warnings.push_back("evaluation.tasks: nothing is measured, because evaluation.interval is 0");
  }
  return warnings;
}

}  // namespace ksa
