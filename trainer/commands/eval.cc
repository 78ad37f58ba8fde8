#include "trainer/commands/eval.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <numbers>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "data/files/result_file.h"
#include "trainer/commands/eval_sources.h"
#include "trainer/commands/eval_tasks.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/session.h"
#include "trainer/evaluate/cache_line.h"
#include "trainer/evaluate/far_context.h"
#include "trainer/evaluate/position_bands.h"
#include "trainer/evaluate/target_bytes.h"
#include "trainer/evaluate/validation.h"
#include "trainer/observe/log_line.h"

namespace ksa {
namespace {

struct EvalOptions {
  std::string checkpoint;
  EvalInput input;
  int64_t samples = 0;  // of each source; 0: all
  std::optional<int64_t> replace_far;
  std::optional<int32_t> micro_batch_size;
  DeviceOption device;
  std::string json;
  EvalTaskOptions task;
};

constexpr int32_t kMicroBatch = 4;

// What was found on one source, or on several together.
struct Measured {
  EvaluationSums sums;
  std::optional<int64_t> bytes;                 // of the targets' text; none: the tokenizer does not spell it
  std::optional<FarContextLoss> far_context{};  // with --replace-far

  [[nodiscard]] std::optional<double> BitsPerByte() const {
    return bytes.value_or(0) > 0 ? std::optional(ksa::BitsPerByte(sums.loss, *bytes)) : std::nullopt;
  }
};

Measured Measure(LoadedModel& loaded,
                 const EvalSources& opened,
                 const EvalSource& source,
                 const EvenSamples& samples,
                 int32_t micro_batch_size) {
  Measured measured = {EvaluationSums(opened.sequence_length, samples.taken), std::nullopt};
  BatchEvaluator evaluator(loaded.runtime(), loaded.model());
  Batch batch;
  int64_t bytes = 0;
  for (int64_t first = 0; first < samples.taken; first += micro_batch_size) {
    source.make_batch(samples, first, std::min<int64_t>(micro_batch_size, samples.taken - first), batch);
    evaluator.Add(batch, first, loaded.mix(), measured.sums);
    bytes += opened.tokenizer ? TargetBytes(batch, *opened.tokenizer) : 0;
  }
  if (opened.tokenizer) {
    measured.bytes = bytes;
  }
  return measured;
}

FarContextLoss MeasureFar(LoadedModel& loaded,
                          const EvalSources& opened,
                          const EvalSource& source,
                          const EvenSamples& samples,
                          int64_t kept,
                          int32_t micro_batch_size) {
  BatchEvaluator evaluator(loaded.runtime(), loaded.model());
  return MeasureFarContext(
      samples.taken,
      opened.sequence_length,
      kept,
      micro_batch_size,
      [&](int64_t first, int64_t count, Batch& batch) { source.make_batch(samples, first, count, batch); },
      [&](const Batch& batch, int64_t first, EvaluationSums& sums) {
        evaluator.Add(batch, first, loaded.mix(), sums);
      });
}

// Of all targets of all sources.
Measured Together(const std::vector<Measured>& parts) {
  Measured all = parts.front();
  if (parts.size() > 1) {
    all.far_context.reset();  // each source's own alone
  }
  for (size_t i = 1; i < parts.size(); ++i) {
    all.sums.Append(parts[i].sums);
    if (all.bytes && parts[i].bytes) {
      *all.bytes += *parts[i].bytes;
    }
  }
  return all;
}

void Print(const EvalSource& source, const EvenSamples& samples, const EvalSources& opened, const Measured& measured) {
  const EvaluationSums& sums = measured.sums;
  const std::optional<double> error = sums.StandardError();
  const std::optional<double> bits = measured.BitsPerByte();
  fmt::print("\n{} ({}): {} of {} samples of {} tokens, {} targets\n",
             source.name,
             source.path,
             samples.taken,
             samples.there,
             opened.sequence_length,
             sums.targets);
  fmt::print("loss {:.4f}{} nats a token, {:.4f} bits a token, {}perplexity {:.4g}\n",
             sums.MeanLoss(),
             error ? fmt::format(" +- {:.4f}", *error) : "",
             sums.MeanLoss() / std::numbers::ln2,
             bits ? fmt::format("{:.4f} bits a byte, ", *bits) : "",
             std::exp(sums.MeanLoss()));
}

void PrintBands(const ModelConfig& model, const EvaluationSums& sums) {
  const std::optional<int64_t> window = TextWindow(model);
  fmt::print("\nloss by position{}\n\n{}",
             window ? fmt::format("; a text window is {} tokens", *window) : "",
             RenderBands(sums, window));
}

void Print(const FarContextLoss& far) {
  fmt::print(
      "\nfar context: all but the last {} tokens of each sample replaced by another's\n"
      "loss of the last {}: {:.4f} as they are, {:.4f} replaced: {:+.4f}{} nats a token\n",
      far.kept,
      far.kept / 2,
      far.loss,
      far.loss_replaced,
      far.loss_replaced - far.loss,
      far.error ? fmt::format(" +- {:.4f}", *far.error) : "");
}

nlohmann::ordered_json JsonOf(const Measured& measured) {
  const EvaluationSums& sums = measured.sums;
  const auto known = [](const std::optional<double>& value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
  };
  nlohmann::ordered_json json = {{"loss", sums.MeanLoss()},
                                 {"standard_error", known(sums.StandardError())},
                                 {"bits_per_byte", known(measured.BitsPerByte())},
                                 {"by_position", nlohmann::ordered_json::array()}};
  for (size_t i = 0; i < sums.position_loss.size(); ++i) {
    const double targets = sums.position_targets[i];
    json["by_position"].push_back(known(targets > 0 ? std::optional(sums.position_loss[i] / targets) : std::nullopt));
  }
  if (const std::optional<FarContextLoss>& far = measured.far_context) {
    json["far_context"] = {{"kept", far->kept},
                           {"targets", far->targets},
                           {"loss", far->loss},
                           {"loss_replaced", far->loss_replaced},
                           {"standard_error", known(far->error)}};
  }
  return json;
}

void WriteJson(ResultFile& file, const EvalSources& opened, const std::vector<Measured>& measured) {
  nlohmann::ordered_json json = JsonOf(Together(measured));
  for (size_t i = 0; measured.size() > 1 && i < measured.size(); ++i) {
    nlohmann::ordered_json source = {{"name", opened.sources[i].name}};
    source.update(JsonOf(measured[i]));
    json["sources"].push_back(std::move(source));
  }
  file.Write(json.dump(2) + "\n");
}

// Before the first pass.
void CheckFar(const EvalOptions& options, const LoadedModel& loaded, const EvalSources& opened) {
  if (!options.replace_far) {
    return;
  }
  if (*options.replace_far >= opened.sequence_length) {
    Fail(ExitCode::kUsage,
         "--replace-far {}: a sample has {} tokens; keep fewer of them",
         *options.replace_far,
         opened.sequence_length);
  }
  if (loaded.config().data.document_mask) {
    Fail(ExitCode::kUsage,
         "--replace-far: the run has data.document_mask, so that no token sees another document's anyway");
  }
  for (const EvalSource& source : opened.sources) {
    if (const EvenSamples samples = SamplesOf(source, options.samples); samples.taken < 2) {
      Fail(ExitCode::kUsage,
           "--replace-far: a sample gets another one's beginning, and of {} one is read ({} there); {}",
           source.path,
           samples.there,
           samples.there < 2 ? "give it more text" : "ask for more --samples");
    }
  }
}

void Eval(const EvalOptions& options) {
  std::optional<ResultFile> json;
  if (!options.json.empty()) {
    json.emplace(options.json);
  }
  LoadedModel loaded(options.checkpoint, options.device);
  if (!options.task.task.empty()) {
    EvalTaskOptions task = options.task;
    task.samples = options.samples;
    task.micro_batch_size = options.micro_batch_size;
    EvalTask(loaded, task, json);
    return;
  }
  const EvalSources opened = OpenEvalSources(loaded, options.input);
  CheckFar(options, loaded, opened);
  for (const std::string& warning : opened.warnings) {
    fmt::print(stderr, "ksa: warning: {}\n", warning);
  }
  fmt::print("{}\n", loaded.checkpoint().path);
  std::vector<Measured> measured;
  for (const EvalSource& source : opened.sources) {
    const EvenSamples samples = SamplesOf(source, options.samples);
    measured.push_back(Measure(loaded, opened, source, samples, options.micro_batch_size.value_or(kMicroBatch)));
    Print(source, samples, opened, measured.back());
    PrintBands(loaded.config().model, measured.back().sums);
    if (options.replace_far) {
      measured.back().far_context = MeasureFar(
          loaded, opened, source, samples, *options.replace_far, options.micro_batch_size.value_or(kMicroBatch));
      Print(*measured.back().far_context);
    }
  }
  fmt::print("\n{}\n", RenderKvCache(loaded.config().model, opened.sequence_length));
  const std::optional<int64_t> kv_bytes =
      MeasureKvCache(loaded.runtime().Context(), loaded.model(), opened.sequence_length);
  if (kv_bytes) {
    fmt::print(
        "as decoding holds it, in {}: {}\n", NameOf(*loaded.config().training.precision), FormatBytes(*kv_bytes));
  }
  if (json.has_value()) {
    WriteJson(*json, opened, measured);
  }
}

CLI::Option* AddTaskOptions(CLI::App& command, EvalTaskOptions& options) {
  CLI::Option* task = command.add_option("--task", options.task, "accuracy on a task instead: NAME[:key=value,...]")
                          ->type_name("TASK")
                          ->group("Tasks");
  command.add_option("--lengths", options.lengths, "tokens of its sequences, several with commas; default: the run's")
      ->type_name("T,...")
      ->delimiter(',')
      ->check(WholeNumber(1))
      ->needs(task)
      ->group("Tasks");
  command.add_option("--depths", options.depths, "depths of its needle, from 0 to 1, several with commas")
      ->type_name("F,...")
      ->delimiter(',')
      ->check(FiniteNumber(0, 1))
      ->needs(task)
      ->group("Tasks");
  command.add_option("--seed", options.seed, "of its samples; default: the run's")
      ->type_name("S")
      ->check(WholeNumber(0))
      ->needs(task)
      ->group("Tasks");
  return task;
}

}  // namespace

void AddEvalCommand(CLI::App& app) {
  const auto options = std::make_shared<EvalOptions>();
  CLI::App* command =
      app.add_subcommand("eval", "Loss of a checkpoint on held-out text, whole and by position; or accuracy on a task");
  command->add_option("checkpoint", options->checkpoint, "checkpoint, or run folder (its newest)")
      ->required()
      ->type_name("CKPT");
  CLI::Option* data =
      command
          ->add_option("--data",
                       options->input.data,
                       "shard folder, made with the run's tokenizer; default: the run's own validation data")
          ->type_name("DIR");
  CLI::Option* text =
      command->add_option("--text", options->input.text, "a text instead, as one document; needs no shards")
          ->type_name("FILE")
          ->excludes(data);
  command
      ->add_option("--samples",
                   options->samples,
                   "read only N samples of each source, spread evenly; default: all. Of a task N of each length and "
                   "depth; default: 500")
      ->type_name("N")
      ->check(WholeNumber(1));
  CLI::Option* length =
      command->add_option("--sequence-length", options->input.sequence_length, "tokens a sample; default: the run's")
          ->type_name("T")
          ->check(WholeNumber(1));
  command
      ->add_option("--micro-batch-size",
                   options->micro_batch_size,
                   "samples a forward pass; default: 4, of a task as many as have 16384 tokens")
      ->check(WholeNumber(1));
  CLI::Option* task = AddTaskOptions(*command, options->task);
  task->excludes(data)->excludes(text)->excludes(length);
  AddDeviceOption(*command, options->device);
  command
      ->add_option("--replace-far",
                   options->replace_far,
                   "also: the loss of the last N/2 tokens of a sample when all but its last N are another sample's")
      ->type_name("N")
      ->check(WholeNumber(2))
      ->excludes(task);
  command
      ->add_option(
          "--json",
          options->json,
          "write loss, standard error, bits a byte and the loss at every position to FILE; of a task its accuracy")
      ->type_name("FILE");
  command->footer(
      "Examples:\n"
      "  ksa eval runs/quickstart\n"
      "  ksa eval runs/quickstart --text README.md\n"
      "  ksa eval runs/quickstart --replace-far 256\n"
      "  ksa eval runs/quickstart/checkpoints/step_00001000 --data runs/corpus/quickstart/validation --samples 100 \\\n"
      "    --json loss.json\n"
      "  ksa eval runs/recall --task recall_stream:keys=32,values=32 --json recall.json\n"
      "  ksa eval runs/recall --task mqar:pairs=[4,8,16],keys=32,values=32 --lengths 64,128 --samples 200\n"
      "  ksa eval runs/recall --task needle:keys=32,values=32 --depths 0,0.5,1 --samples 50\n"
      "The standard error says how far the loss on other text of the same kind may be off.");
  command->callback([options] { Eval(*options); });
}

}  // namespace ksa
