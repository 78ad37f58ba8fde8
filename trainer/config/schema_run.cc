// The keys of `run`, `data` and `training`.
#include <fmt/core.h>

#include "data/loader/open_source.h"
#include "kernels/core/threads.h"
#include "trainer/config/schema.h"
#include "trainer/config/task_codec.h"

namespace ksa {
namespace {

constexpr ChangeClass kRefused = ChangeClass::kRefused;
constexpr ChangeClass kFree = ChangeClass::kFree;
constexpr ChangeClass kNeedsAllowChange = ChangeClass::kNeedsAllowChange;

Codec<int32_t> Count(int32_t least = 1, int32_t most = kLargestSize) {
  return IntegerCodec<int32_t>(least, most);
}

Codec<int64_t> Updates(int64_t least = 1) {
  return IntegerCodec<int64_t>(least, kMostUpdates);
}

constexpr size_t kLongestName = 255;  // bytes, of Linux' file systems

// A name that may be a folder's.
Codec<std::string> NameCodec() {
  Codec<std::string> codec = TextCodec();
  const auto text = codec.read;
  codec.read = [text](const YamlNode& node, const Reporter& reporter, std::string& out) {
    if (!text(node, reporter, out)) {
      return false;
    }
    if (out == "." || out == ".." || out.starts_with('~') || out.find_first_of("/\n\t") != std::string::npos) {
      return reporter.Fail(
          node.place,
          fmt::format("must be usable as a folder name, got {}; remove '/' and a '~' in front", Quoted(out)));
    }
    if (out.size() > kLongestName) {
      return reporter.Fail(
          node.place,
          fmt::format("a folder's name has at most {} bytes, this has {}; shorten it", kLongestName, out.size()));
    }
    return true;
  };
  return codec;
}

// Reads {path, name} or {task, name, keys}, and what `more` adds, then fills in the name.
template <typename Source>
bool ReadSource(
    const YamlNode& node, const Reporter& reporter, bool training, Source& out, const std::vector<ItemField>& more) {
  if (IsTaskItem(node)) {
    return ReadTaskItem(node, reporter, training, more, out.task, out.name);
  }
  const Codec<std::string> path = PathCodec();
  const Codec<std::string> text = TextCodec();
  std::vector<ItemField> fields = {
      {"path", [&](const YamlNode& field, const Reporter& at) { return path.read(field, at, out.path); }},
      {"name", [&](const YamlNode& field, const Reporter& at) { return text.read(field, at, out.name); }}};
  fields.insert(fields.end(), more.begin(), more.end());
  if (!ReadItem(node, reporter, fields)) {
    return false;
  }
  if (out.path.empty()) {
    return reporter.Fail(node.place, "needs a path: the folder of the token shards");
  }
  if (out.name.empty()) {
    out.name = SourceName("", out.path);
  }
  return true;
}

Codec<TrainSource> TrainSourceCodec() {
  const Codec<double> weight = NumberCodec(0.0, true, 1e15);  // sums of weights stay finite
  return {"source",
          [weight](const YamlNode& node, const Reporter& reporter, TrainSource& out) {
            return ReadSource(node, reporter, true, out, {{"weight", [&](const YamlNode& field, const Reporter& at) {
                                                             return weight.read(field, at, out.weight);
                                                           }}});
          },
          [weight](const TrainSource& source) {
            return source.task.kind.empty()
                       ? fmt::format("{{path: {}, weight: {}, name: {}}}",
                                     ScalarText(source.path),
                                     weight.write(source.weight),
                                     ScalarText(source.name))
                       : fmt::format(
                             "{{weight: {}, {}}}", weight.write(source.weight), TaskItemText(source.task, source.name));
          }};
}

Codec<ValidationSource> ValidationSourceCodec() {
  return {"source",
          [](const YamlNode& node, const Reporter& reporter, ValidationSource& out) {
            return ReadSource(node, reporter, false, out, {});
          },
          [](const ValidationSource& source) {
            return source.task.kind.empty()
                       ? fmt::format("{{path: {}, name: {}}}", ScalarText(source.path), ScalarText(source.name))
                       : fmt::format("{{{}}}", TaskItemText(source.task, source.name));
          }};
}

// A list that must hold at least one item.
template <typename T>
Codec<std::vector<T>> NotEmpty(Codec<std::vector<T>> codec, const std::string& message) {
  const auto any = codec.read;
  codec.read = [any, message](const YamlNode& node, const Reporter& reporter, std::vector<T>& out) {
    return any(node, reporter, out) && (!out.empty() || reporter.Fail(node.place, message));
  };
  return codec;
}

Codec<double> SpikeFactorCodec() {
  Codec<double> codec = NumberCodec(0.0);
  codec.type = "number greater than 1, or 0";
  const auto any = codec.read;
  codec.read = [any](const YamlNode& node, const Reporter& reporter, double& out) {
    if (!any(node, reporter, out)) {
      return false;
    }
    return out == 0.0 || out > 1.0 ||
           reporter.Fail(node.place, fmt::format("must be greater than 1, or 0 for none, got {}", out));
  };
  return codec;
}

Codec<std::optional<DType>> PrecisionCodec() {
  return OptionalCodec(EnumCodec<DType>({{"fp32", DType::kF32}, {"bf16", DType::kBF16}, {"fp64", DType::kF64}}),
                       "auto");
}

}  // namespace

std::vector<Key> RunKeys() {
  const Codec<DeviceChoice> device = EnumCodec<DeviceChoice>(
      {{"auto", DeviceChoice::kAuto}, {"cpu", DeviceChoice::kCpu}, {"cuda", DeviceChoice::kCuda}});
  return {
      MakeKey<std::string>("run.name",
                           NameCodec(),
                           "required",
                           "name of the run",
                           kFree,
                           [](Draft& d) -> std::string& { return d.config.run.name; }),
      MakeKey<std::optional<std::string>>("run.dir",
                                          OptionalCodec(PathCodec(), ""),
                                          "runs/<name>",
                                          "run folder: metrics, log, checkpoints",
                                          kFree,
                                          [](Draft& d) -> std::optional<std::string>& { return d.run_dir; }),
      MakeKey<uint64_t>("run.seed",
                        IntegerCodec<uint64_t>(0),
                        "1234",
                        "decides the initial weights and the order of samples",
                        kRefused,
                        [](Draft& d) -> uint64_t& { return d.config.run.seed; }),
      MakeKey<DeviceChoice>("run.device",
                            device,
                            "auto",
                            "where to compute; auto: a GPU if there is one",
                            kFree,
                            [](Draft& d) -> DeviceChoice& { return d.config.run.device; }),
      MakeKey<bool>("run.deterministic",
                    BoolCodec(),
                    "true",
                    "equal runs are equal in bits; false: on a GPU full layers may add in any order, which is faster",
                    kFree,
                    [](Draft& d) -> bool& { return d.config.run.deterministic; }),
      MakeKey<std::optional<int32_t>>("run.threads",
                                      OptionalCodec(IntegerCodec<int32_t>(1, kMaxThreads), "auto"),
                                      "auto",
                                      "CPU threads of a rank; auto: the cores it may use",
                                      kFree,
                                      [](Draft& d) -> std::optional<int32_t>& { return d.config.run.threads; }),
      MakeKey<std::optional<double>>(
          "run.max_wall_minutes",
          OptionalCodec(NumberCodec(0.0, true, 1e7), "none"),
          "none",
          "the run saves and ends with exit code 85 before this many minutes, counted from the program's start",
          kFree,
          [](Draft& d) -> std::optional<double>& { return d.config.run.max_wall_minutes; }),
  };
}

std::vector<Key> DataKeys() {
  return {
      MakeKey<std::vector<TrainSource>>(
          "data.train",
          NotEmpty(ListCodec(TrainSourceCodec(), "list of {path, weight, name}"), "needs at least one source"),
          "required",
          "folders of token shards, or {task, weight, name, keys of the task}: samples that a task makes; weight: "
          "share of "
          "the samples, name: for reports",
          ChangeClass::kContent,
          [](Draft& d) -> std::vector<TrainSource>& { return d.config.data.train; }),
      MakeKey<std::vector<ValidationSource>>(
          "data.validation",
          ListCodec(ValidationSourceCodec(), "list of {path, name}"),
          "[]",
          "folders of token shards to validate on, or {task, name, keys of the task}; names are distinct",
          kFree,
          [](Draft& d) -> std::vector<ValidationSource>& { return d.config.data.validation; }),
      MakeKey<bool>("data.document_mask",
                    BoolCodec(),
                    "false",
                    "no chunk, window or summary crosses a document's end",
                    kRefused,
                    [](Draft& d) -> bool& { return d.config.data.document_mask; }),
      MakeKey<OnCorrupt>("data.on_corrupt",
                         EnumCodec<OnCorrupt>({{"abort", OnCorrupt::kAbort}, {"skip", OnCorrupt::kSkip}}),
                         "abort",
                         "a damaged block ends the run, or its samples get no targets",
                         kFree,
                         [](Draft& d) -> OnCorrupt& { return d.config.data.on_corrupt; }),
  };
}

std::vector<Key> TrainingKeys() {
  const Codec<Recompute> recompute = EnumCodec<Recompute>({{"none", Recompute::kNone},
                                                           {"attention", Recompute::kAttention},
                                                           {"mlp", Recompute::kMlp},
                                                           {"block", Recompute::kBlock}});
  const Codec<std::optional<int64_t>> updates = OptionalCodec(Updates(), "none");
  return {
      MakeKey<int32_t>("training.sequence_length",
                       Count(),
                       "required",
                       "T: text tokens a sequence",
                       kRefused,
                       [](Draft& d) -> int32_t& { return d.config.training.sequence_length; }),
      MakeKey<int32_t>("training.global_batch_size",
                       Count(),
                       "required",
                       "sequences an update; a multiple of micro_batch_size x data ranks",
                       kRefused,
                       [](Draft& d) -> int32_t& { return d.config.training.global_batch_size; }),
      MakeKey<std::optional<int32_t>>(
          "training.micro_batch_size",
          OptionalCodec(Count(), "auto"),
          "1",
          "sequences that a rank computes at once; auto: the most of its share that divide it and fit into memory",
          kFree,
          [](Draft& d) -> std::optional<int32_t>& { return d.config.training.micro_batch_size; }),
      MakeKey<std::optional<int64_t>>("training.max_steps",
                                      updates,
                                      "none",
                                      "updates of the whole schedule; give this or max_tokens",
                                      kNeedsAllowChange,
                                      [](Draft& d) -> std::optional<int64_t>& { return d.max_steps; }),
      MakeKey<std::optional<int64_t>>(
          "training.max_tokens",
          OptionalCodec(TokenCountCodec(), "none"),
          "none",
          "tokens of the whole schedule: max_steps = ceil(max_tokens / (global_batch_size x sequence_length))",
          kNeedsAllowChange,
          [](Draft& d) -> std::optional<int64_t>& { return d.max_tokens; }),
      MakeKey<std::optional<int64_t>>("training.hard_stop",
                                      updates,
                                      "none",
                                      "update after which the run ends, the schedule unchanged",
                                      kFree,
                                      [](Draft& d) -> std::optional<int64_t>& { return d.config.training.hard_stop; }),
      MakeKey<std::optional<DType>>("training.precision",
                                    PrecisionCodec(),
                                    "auto",
                                    "of the computation; auto: fp32 on CPU, bf16 on CUDA; fp64 is for the CPU",
                                    kRefused,
                                    [](Draft& d) -> std::optional<DType>& { return d.config.training.precision; }),
      MakeKey<Recompute>("training.recompute",
                         recompute,
                         "none",
                         "what the backward pass computes again instead of keeping it",
                         kFree,
                         [](Draft& d) -> Recompute& { return d.config.training.recompute; }),
      MakeKey<OnNonfinite>("training.on_nonfinite",
                           EnumCodec<OnNonfinite>({{"abort", OnNonfinite::kAbort}, {"skip", OnNonfinite::kSkip}}),
                           "abort",
                           "an update whose loss or gradient norm is not finite ends the run, or is skipped",
                           kFree,
                           [](Draft& d) -> OnNonfinite& { return d.config.training.on_nonfinite; }),
      MakeKey<double>(
          "training.spike_factor",
          SpikeFactorCodec(),
          "0",
          "an update is skipped whose gradient norm exceeds so many times the median of the last 64; 0: off",
          kFree,
          [](Draft& d) -> double& { return d.config.training.spike_factor; }),
      MakeKey<int64_t>("training.max_skips",
                       Updates(),
                       "10",
                       "updates that may be skipped in a row; one more ends the run",
                       kFree,
                       [](Draft& d) -> int64_t& { return d.config.training.max_skips; }),
  };
}

}  // namespace ksa
