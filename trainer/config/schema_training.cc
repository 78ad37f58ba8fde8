// The keys of `optimizer`, `schedule`, `parallel`, `checkpoint`, `evaluation` and `logging`.
#include <fmt/core.h>

#include "trainer/config/schema.h"
#include "trainer/config/task_codec.h"

namespace ksa {
namespace {

constexpr ChangeClass kFree = ChangeClass::kFree;
constexpr ChangeClass kNeedsAllowChange = ChangeClass::kNeedsAllowChange;

Codec<int32_t> Count(int32_t least = 1, int32_t most = kLargestSize) {
  return IntegerCodec<int32_t>(least, most);
}

Codec<int64_t> Updates(int64_t least = 1) {
  return IntegerCodec<int64_t>(least, kMostUpdates);
}

Codec<std::vector<double>> BetasCodec() {
  Codec<std::vector<double>> codec = ListCodec(NumberCodec(0.0, false, 1.0), "list of two numbers");
  codec.type = "two numbers at least 0 and less than 1";
  const auto any = codec.read;
  codec.read = [any](const YamlNode& node, const Reporter& reporter, std::vector<double>& out) {
    if (node.kind == YamlNode::Kind::kSequence && node.items.size() != 2) {
      return reporter.Fail(node.place, fmt::format("expected two numbers, [beta1, beta2], got {}", node.items.size()));
    }
    return any(node, reporter, out);
  };
  return codec;
}

}  // namespace

std::vector<Key> OptimizerKeys() {
  return {
      MakeKey<double>("optimizer.lr",
                      NumberCodec(0.0),
                      "required",
                      "peak learning rate",
                      kNeedsAllowChange,
                      [](Draft& d) -> double& { return d.config.optimizer.lr; }),
      MakeKey<std::optional<double>>("optimizer.min_lr",
                                     OptionalCodec(NumberCodec(0.0), ""),
                                     "lr / 10",
                                     "learning rate at the end of wsd and cosine",
                                     kNeedsAllowChange,
                                     [](Draft& d) -> std::optional<double>& { return d.min_lr; }),
      MakeKey<std::vector<double>>("optimizer.betas",
                                   BetasCodec(),
                                   "[0.9, 0.95]",
                                   "decay of AdamW's two moments",
                                   kNeedsAllowChange,
                                   [](Draft& d) -> std::vector<double>& { return d.betas; }),
      MakeKey<double>("optimizer.eps",
                      NumberCodec(0.0, true),
                      "1e-08",
                      "added to the root of the second moment",
                      kNeedsAllowChange,
                      [](Draft& d) -> double& { return d.config.optimizer.eps; }),
      MakeKey<double>("optimizer.weight_decay",
                      NumberCodec(0.0),
                      "0.1",
                      "of matrices, token embedding and head",
                      kNeedsAllowChange,
                      [](Draft& d) -> double& { return d.config.optimizer.weight_decay; }),
      MakeKey<double>("optimizer.clip_grad_norm",
                      NumberCodec(0.0),
                      "1",
                      "largest global gradient norm; 0: off",
                      kNeedsAllowChange,
                      [](Draft& d) -> double& { return d.config.optimizer.clip_grad_norm; }),
  };
}

std::vector<Key> ScheduleKeys() {
  const Codec<ScheduleKind> kind = EnumCodec<ScheduleKind>(
      {{"wsd", ScheduleKind::kWsd}, {"cosine", ScheduleKind::kCosine}, {"constant", ScheduleKind::kConstant}});
  return {
      MakeKey<ScheduleKind>("schedule.kind",
                            kind,
                            "wsd",
                            "course of the learning rate after the warm-up",
                            kNeedsAllowChange,
                            [](Draft& d) -> ScheduleKind& { return d.config.schedule.kind; }),
      MakeKey<StepCount>("schedule.warmup_steps",
                         StepCountCodec(),
                         "0",
                         "updates of linear warm-up",
                         kNeedsAllowChange,
                         [](Draft& d) -> StepCount& { return d.warmup_steps; }),
      MakeKey<std::optional<StepCount>>("schedule.decay_steps",
                                        OptionalCodec(StepCountCodec(), ""),
                                        "floor(max_steps / 10)",
                                        "last updates of wsd, which fall to min_lr",
                                        kNeedsAllowChange,
                                        [](Draft& d) -> std::optional<StepCount>& { return d.decay_steps; }),
      MakeKey<DecayShape>("schedule.decay",
                          EnumCodec<DecayShape>({{"linear", DecayShape::kLinear}, {"sqrt", DecayShape::kSqrt}}),
                          "linear",
                          "how wsd falls: linearly, or as 1 - sqrt of the part of the decay that is done",
                          kNeedsAllowChange,
                          [](Draft& d) -> DecayShape& { return d.config.schedule.decay; }),
  };
}

std::vector<Key> ParallelKeys() {
  return {
      MakeKey<int32_t>("parallel.tensor",
                       Count(),
                       "1",
                       "ranks that share every matrix",
                       kFree,
                       [](Draft& d) -> int32_t& { return d.config.parallel.tensor; }),
      MakeKey<int32_t>("parallel.context",
                       Count(),
                       "1",
                       "ranks that share every sequence",
                       kFree,
                       [](Draft& d) -> int32_t& { return d.config.parallel.context; }),
      MakeKey<std::optional<int32_t>>("parallel.data",
                                      OptionalCodec(Count(), "auto"),
                                      "auto",
                                      "ranks that share the batch; auto: ranks / (tensor x context)",
                                      kFree,
                                      [](Draft& d) -> std::optional<int32_t>& { return d.config.parallel.data; }),
      MakeKey<std::optional<bool>>("parallel.sequence_parallel",
                                   OptionalCodec(BoolCodec(), ""),
                                   "true when tensor > 1",
                                   "tensor ranks split the rows between matrices",
                                   kFree,
                                   [](Draft& d) -> std::optional<bool>& { return d.sequence_parallel; }),
      MakeKey<int32_t>("parallel.zero",
                       Count(0, 1),
                       "1",
                       "1: data ranks share the optimizer's state",
                       kFree,
                       [](Draft& d) -> int32_t& { return d.config.parallel.zero; }),
  };
}

std::vector<Key> CheckpointKeys() {
  return {
      MakeKey<int64_t>("checkpoint.interval",
                       Updates(),
                       "1000",
                       "updates between checkpoints",
                       kFree,
                       [](Draft& d) -> int64_t& { return d.config.checkpoint.interval; }),
      MakeKey<int32_t>("checkpoint.keep_last",
                       Count(2),
                       "2",
                       "newest checkpoints that stay",
                       kFree,
                       [](Draft& d) -> int32_t& { return d.config.checkpoint.keep_last; }),
      MakeKey<int64_t>("checkpoint.keep_every",
                       Updates(0),
                       "0",
                       "checkpoints of updates that it divides stay for good, beside keep_last; 0: none",
                       kFree,
                       [](Draft& d) -> int64_t& { return d.config.checkpoint.keep_every; }),
      MakeKey<bool>("checkpoint.async",
                    BoolCodec(),
                    "true",
                    "training waits for a copy of the state alone, files are written beside it; where a host has no "
                    "room for it, training waits for the files",
                    kFree,
                    [](Draft& d) -> bool& { return d.config.checkpoint.async; }),
      MakeKey<std::string>("checkpoint.resume",
                           PathCodec(),
                           "auto",
                           "auto: from the newest checkpoint of the run folder if there is one; never; or the path of "
                           "the checkpoint that "
                           "an empty run folder starts from",
                           kFree,
                           [](Draft& d) -> std::string& { return d.config.checkpoint.resume; }),
      MakeKey<std::optional<std::string>>(
          "checkpoint.load",
          OptionalCodec(PathCodec(), "none"),
          "none",
          "checkpoint, or folder of Hugging Face, whose weights a new run starts from",
          kFree,
          [](Draft& d) -> std::optional<std::string>& { return d.config.checkpoint.load; }),
      MakeKey<NewParameters>(
          "checkpoint.new_parameters",
          EnumCodec<NewParameters>({{"copy", NewParameters::kCopy}, {"init", NewParameters::kInit}}),
          "copy",
          "how load makes what summaries have for themselves and its source lacks: from the base's, or anew",
          kFree,
          [](Draft& d) -> NewParameters& { return d.config.checkpoint.new_parameters; }),
      MakeKey<bool>("checkpoint.export_hf",
                    BoolCodec(),
                    "false",
                    "a Hugging Face folder of the last checkpoint at the end of the run",
                    kFree,
                    [](Draft& d) -> bool& { return d.config.checkpoint.export_hf; }),
      MakeKey<int32_t>("checkpoint.retries",
                       Count(0),
                       "5",
                       "further tries of a save that failed, 1, 2, 4 … updates later, before the run ends with 74",
                       kFree,
                       [](Draft& d) -> int32_t& { return d.config.checkpoint.retries; }),
      MakeKey<std::vector<std::string>>(
          "checkpoint.allow_change",
          ListCodec(TextCodec(), "list of keys"),
          "[]",
          "optimizer, schedule and length keys that this resume may change",
          kFree,
          [](Draft& d) -> std::vector<std::string>& { return d.config.checkpoint.allow_change; }),
  };
}

std::vector<Key> EvaluationKeys() {
  return {
      MakeKey<int64_t>("evaluation.interval",
                       Updates(0),
                       "0",
                       "updates between validations; 0: off",
                       kFree,
                       [](Draft& d) -> int64_t& { return d.config.evaluation.interval; }),
      MakeKey<std::optional<int32_t>>(
          "evaluation.batches",
          OptionalCodec(Count(), "all"),
          "8",
          "global batches of every validation source, spread evenly over it; all: the whole source",
          kFree,
          [](Draft& d) -> std::optional<int32_t>& { return d.config.evaluation.batches; }),
      MakeKey<std::vector<EvaluationTask>>(
          "evaluation.tasks",
          ListCodec(EvaluationTaskCodec(), "list of {task, name, samples, keys of the task}"),
          "[]",
          "tasks whose accuracy is measured with every validation; samples: 256",
          kFree,
          [](Draft& d) -> std::vector<EvaluationTask>& { return d.config.evaluation.tasks; }),
  };
}

std::vector<Key> LoggingKeys() {
  return {
      MakeKey<int64_t>("logging.interval",
                       Updates(),
                       "1",
                       "updates between log lines",
                       kFree,
                       [](Draft& d) -> int64_t& { return d.config.logging.interval; }),
      MakeKey<bool>("logging.tensorboard",
                    BoolCodec(),
                    "true",
                    "write TensorBoard events",
                    kFree,
                    [](Draft& d) -> bool& { return d.config.logging.tensorboard; }),
  };
}

}  // namespace ksa
