#include "trainer/commands/eval.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "data/files/posix_file.h"
#include "trainer/checkpoint/run_tokenizer.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/session.h"
#include "trainer/evaluate/validation.h"
#include "trainer/loop/trainer.h"

namespace ksa {
namespace {

struct EvalOptions {
  std::string checkpoint;
  std::string data;
  int64_t samples = 0;          // 0: all
  int32_t sequence_length = 0;  // 0: the run's
  int32_t micro_batch_size = 4;
  DeviceOption device;
  std::string json;
};

// Positions in bands that double: 0, 1, 2-3, 4-7, ...
struct Band {
  int64_t first = 0;
  int64_t last = 0;
  double loss = 0.0;
  double targets = 0.0;
};

std::vector<Band> BandsOf(const EvaluationSums& sums) {
  std::vector<Band> bands;
  const auto positions = static_cast<int64_t>(sums.position_loss.size());
  for (int64_t first = 0; first < positions; first = std::max<int64_t>(1, 2 * first)) {
    Band band = {first, std::min(positions, std::max<int64_t>(1, 2 * first)) - 1};
    for (int64_t i = first; i <= band.last; ++i) {
      band.loss += sums.position_loss[static_cast<size_t>(i)];
      band.targets += sums.position_targets[static_cast<size_t>(i)];
    }
    if (band.targets > 0) {
      band.loss /= band.targets;
    }
    bands.push_back(band);
  }
  return bands;
}

void PrintTable(const EvaluationSums& sums) {
  fmt::print("loss {:.4f} nats a token over {} targets\n\n  positions          loss   targets\n",
             sums.MeanLoss(),
             sums.targets);
  for (const Band& band : BandsOf(sums)) {
    fmt::print("  {:>6} - {:<6} {:>9.4f} {:>9.0f}\n", band.first, band.last, band.loss, band.targets);
  }
}

void WriteJson(File& file, const EvaluationSums& sums) {
  nlohmann::json json = {{"loss", sums.MeanLoss()}, {"targets", sums.targets}};
  for (size_t i = 0; i < sums.position_loss.size(); ++i) {
    const double targets = sums.position_targets[i];
    json["position_loss"].push_back(targets > 0 ? nlohmann::json(sums.position_loss[i] / targets) : nlohmann::json());
  }
  const std::string text = json.dump(2) + "\n";
  file.Write(text.data(), static_cast<int64_t>(text.size()));
  file.Close();
}

void Eval(const EvalOptions& options) {
  std::optional<File> json;
  if (!options.json.empty()) {
    json = File::Create(options.json);  // before the work, not after
  }
  LoadedModel loaded(options.checkpoint, options.device);
  DatasetConfig data = DatasetConfigOf(loaded.config());
  data.train.clear();
  data.validation = {{options.data, "data"}};
  const int64_t longest = loaded.config().model.max_position_embeddings;
  if (options.sequence_length > longest) {
    Fail(ExitCode::kUsage, "--sequence-length {} is beyond the model's {} positions", options.sequence_length, longest);
  }
  if (options.sequence_length > 0) {
    data.sequence_length = options.sequence_length;
  }
  const Dataset dataset(data);
  if (!CheckTokenizer(loaded.checkpoint(), dataset)) {
    fmt::print(stderr,
               "ksa: warning: {}: its tokenizer is not kept beside it; whether it is that of {} is not checked\n",
               loaded.checkpoint().path,
               options.data);
  }
  Evaluator evaluator(loaded.runtime(), loaded.model(), dataset, options.micro_batch_size);
  const int64_t all = dataset.validation_sources()[0].samples;
  const EvenSamples samples = TakeEvenly(options.samples > 0 ? options.samples : all, all);
  const EvaluationSums sums = *evaluator.Run(0, samples, loaded.mix());  // nobody interrupts it
  fmt::print("{}\n{}: {} of {} samples of {} tokens\n",
             loaded.checkpoint().path,
             options.data,
             samples.taken,
             all,
             data.sequence_length);
  PrintTable(sums);
  if (json.has_value()) {
    WriteJson(*json, sums);
  }
}

}  // namespace

void AddEvalCommand(CLI::App& app) {
  const auto options = std::make_shared<EvalOptions>();
  CLI::App* command = app.add_subcommand("eval", "Loss of a checkpoint on held-out shards, whole and by position");
  command->add_option("checkpoint", options->checkpoint, "checkpoint, or run folder (its newest)")
      ->required()
      ->type_name("CKPT");
  command->add_option("--data", options->data, "shard folder, made with the run's tokenizer")
      ->required()
      ->type_name("DIR");
  command->add_option("--samples", options->samples, "read only N samples, spread evenly; default: all")
      ->type_name("N")
      ->check(WholeNumber(1));
  command->add_option("--sequence-length", options->sequence_length, "tokens a sample; default: the run's")
      ->type_name("T")
      ->check(WholeNumber(1));
  command->add_option("--micro-batch-size", options->micro_batch_size, "samples a forward pass")->check(WholeNumber(1));
  AddDeviceOption(*command, options->device);
  command->add_option("--json", options->json, "write the loss at every position to FILE")->type_name("FILE");
  command->footer(
      "Examples:\n"
      "  ksa eval runs/quickstart --data runs/corpus/quickstart/validation\n"
      "  ksa eval runs/quickstart/checkpoints/step_00001000 --data shards --samples 100 --json loss.json");
  command->callback([options] { Eval(*options); });
}

}  // namespace ksa
