#include "trainer/commands/ckpt_models.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <xxhash.h>

#include "data/files/posix_file.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/checkpoint_sink.h"
#include "trainer/checkpoint/checkpoint_source.h"
#include "trainer/checkpoint/run_tokenizer.h"
#include "trainer/evaluate/compare_tensors.h"
#include "trainer/interop/composed_source.h"
#include "trainer/interop/export_hf.h"
#include "trainer/interop/import_hf.h"
#include "trainer/observe/log_line.h"
#include "trainer/observe/table.h"

namespace ksa {
namespace {

struct ModelOptions {
  std::string path;
  std::vector<std::string> paths;
  std::string output;
  std::string config;
  ExportOptions exported;
};

void PrintNotes(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) {
    fmt::print("note: {}\n", note);
  }
}

// --- diff

std::shared_ptr<TensorSource> WeightsAt(const std::string& path) {
  if (IsHfFolder(path)) {
    return OpenHfFolder(path).weights;
  }
  return std::make_shared<WeightsOfCheckpoint>(OpenCheckpoint(path));
}

void Diff(const ModelOptions& options) {
  const std::shared_ptr<TensorSource> a = WeightsAt(options.paths.at(0));
  const std::shared_ptr<TensorSource> b = WeightsAt(options.paths.at(1));
  const std::vector<TensorDifference> differences = CompareSources(*a, *b);
  if (differences.empty()) {
    fmt::print("{} and {}: {} tensors, equal in bits\n", a->where(), b->where(), a->tensors().size());
    return;
  }
  Table table({{"tensor", "tensor"},
               {"different", "different elements"},
               {"relative_l2", "relative difference (L2)", 9},
               {"where", ""}});
  for (const TensorDifference& difference : differences) {
    const TensorInfo* left = a->Find(difference.name);
    const TensorInfo* right = b->Find(difference.name);
    std::string why;
    if (left == nullptr || right == nullptr) {
      why = fmt::format("only in {}", (left == nullptr ? b : a)->where());
    } else if (left->shape != right->shape || left->dtype != right->dtype) {
      why = fmt::format("{} {} and {} {}",
                        NameOf(left->dtype),
                        DescribeShape(left->shape),
                        NameOf(right->dtype),
                        DescribeShape(right->shape));
    }
    const TableCell relative = why.empty() ? TableCell(difference.relative_l2) : TableCell();
    table.AddRow({difference.name, difference.different_elements, relative, why});
  }
  fmt::print("{}", table.Text());
  Fail(ExitCode::kDiffers,
       "{} and {} differ in {} of {} tensors",
       a->where(),
       b->where(),
       differences.size(),
       a->tensors().size());
}

void AddDiff(CLI::App& group) {
  const auto options = std::make_shared<ModelOptions>();
  CLI::App* diff = group.add_subcommand("diff", "Compare the weights of two checkpoints or Hugging Face folders");
  diff->add_option("checkpoints", options->paths, "two of: checkpoint, run folder (its newest), Hugging Face folder")
      ->required()
      ->expected(2)
      ->type_name("A B");
  diff->footer(
      "Examples:\n"
      "  ksa ckpt diff runs/a/checkpoints/step_00001000 runs/b/checkpoints/step_00001000\n"
      "  ksa ckpt diff runs/a exports/a\n"
      "Exit code 0 if all weights are equal in bits, 2 if some differ. For metrics and moments: ksa compare.");
  diff->callback([options] { Diff(*options); });
}

// --- average

void Average(const ModelOptions& options) {
  std::vector<std::unique_ptr<TensorSource>> sources;
  Checkpoint last;
  for (const std::string& path : options.paths) {
    Checkpoint checkpoint = OpenCheckpoint(path);
    if (sources.empty() || checkpoint.manifest.meta.step >= last.manifest.meta.step) {
      last = checkpoint;
    }
    sources.push_back(std::make_unique<WeightsOfCheckpoint>(std::move(checkpoint)));
  }
  const size_t count = sources.size();
  AverageSource average(std::move(sources));
  CheckpointMeta meta = last.manifest.meta;
  meta.mesh = {1, 1, 1};
  meta.recent_grad_norms.clear();
  meta.skips_in_a_row = 0;
  // Another model than any of them, and the same for the same ones: never counted as a checkpoint of a run.
  const std::string name = fmt::format("average of {}", fmt::join(options.paths, ", "));
  meta.run_id = fmt::format("{:016x}", XXH3_64bits(name.data(), name.size()));
  std::optional<TokenizerFile> tokenizer;
  if (const std::optional<std::string> path = FindTokenizerFile(last)) {
    tokenizer = TokenizerFile{path->substr(path->rfind('/') + 1), ReadSmallFile(*path)};
  }
  CheckpointSink sink(options.output, average.tensors(), std::move(meta), tokenizer);
  CopyTensors(average, sink);
  fmt::print("{}: the mean of {} checkpoints, {} tensors; configuration and step are those of {}\n",
             options.output,
             count,
             sink.tensors().size(),
             last.path);
}

void AddAverage(CLI::App& group) {
  const auto options = std::make_shared<ModelOptions>();
  CLI::App* average = group.add_subcommand("average", "A checkpoint whose weights are the mean of others'");
  average->add_option("checkpoints", options->paths, "two or more checkpoints of one model")
      ->required()
      ->expected(2, 1000)
      ->type_name("CKPT");
  average->add_option("--output", options->output, "the new checkpoint; must not exist")->required()->type_name("DIR");
  average->footer(
      "Example:\n"
      "  ksa ckpt average runs/a/checkpoints/step_00000800 runs/a/checkpoints/step_00001000 --output averages/a\n"
      "The mean is computed in fp64. The new checkpoint holds weights alone: evaluate it, generate with it, or start "
      "a\n"
      "run from it with checkpoint.load.");
  average->callback([options] { Average(*options); });
}

// --- export-hf

void Export(const ModelOptions& options) {
  const Checkpoint checkpoint = OpenCheckpoint(options.path);
  const ExportReport report = ExportHf(checkpoint, options.output, options.exported);
  fmt::print("{}: {} in the layout {}: {} tensors, {} in {} file(s) of {}\n",
             options.output,
             checkpoint.path,
             NameOf(options.exported.layout),
             report.tensors,
             FormatBytes(report.bytes),
             report.files,
             NameOf(options.exported.weights.type));
  PrintNotes(report.notes);
}

void AddExport(CLI::App& group) {
  const auto options = std::make_shared<ModelOptions>();
  CLI::App* command = group.add_subcommand("export-hf", "Write a checkpoint's model as a Hugging Face folder");
  command->add_option("checkpoint", options->path, "checkpoint, or a run folder: its newest")
      ->required()
      ->type_name("CKPT");
  command->add_option("folder", options->output, "the new folder")->required()->type_name("DIR");
  const std::map<std::string, HfLayout> layouts = {
      {"own", HfLayout::kOwn}, {"qwen3", HfLayout::kQwen3}, {"released", HfLayout::kReleased}};
  const std::map<std::string, StoredType> types = {{"bf16", StoredType::kBF16}, {"fp32", StoredType::kF32}};
  command
      ->add_option("--layout",
                   options->exported.layout,
                   "own: any model, with its Python code (default); qwen3: full and swa layers, for every engine; "
                   "released: names and fields of the implementation released with the paper")
      ->transform(CLI::CheckedTransformer(layouts))
      ->type_name("own|qwen3|released");
  command->add_option("--dtype", options->exported.weights.type, "bf16 (default), rounded to nearest even; or fp32")
      ->transform(CLI::CheckedTransformer(types))
      ->type_name("bf16|fp32");
  command->footer(
      "Examples:\n"
      "  ksa ckpt export-hf runs/quickstart exports/quickstart\n"
      "  ksa ckpt export-hf runs/full/checkpoints/step_00001000 exports/full --layout qwen3 --dtype fp32\n"
      "Weights, config.json, generation_config.json, the tokenizer as far as it can be, and a model card. A layout "
      "that\n"
      "cannot say the model is refused with every key that it cannot say (78).");
  command->callback([options] { Export(*options); });
}

// --- import-hf

void Import(const ModelOptions& options) {
  const ImportReport report =
      ImportHf(options.path, options.output, options.config.empty() ? std::nullopt : std::optional(options.config));
  fmt::print("{}: the model of {} (layout {}): {} parameters\n",
             options.output,
             options.path,
             NameOf(report.layout),
             FormatCount(static_cast<double>(report.parameters)));
  for (const std::string& made : report.made) {
    fmt::print("made: {}\n", made);
  }
  for (const std::string& unused : report.unused) {
    fmt::print("unused: {}\n", unused);
  }
  PrintNotes(report.notes);
}

void AddImport(CLI::App& group) {
  const auto options = std::make_shared<ModelOptions>();
  CLI::App* command = group.add_subcommand("import-hf", "Make a checkpoint of a Hugging Face folder");
  command->add_option("folder", options->path, "Qwen3, an export of ours, or the released implementation's")
      ->required()
      ->type_name("DIR");
  command->add_option("--output", options->output, "the new checkpoint; must not exist")->required()->type_name("CKPT");
  command->add_option("--config", options->config, "configuration whose model is made of the folder's weights")
      ->type_name("YAML");
  command->footer(
      "Examples:\n"
      "  ksa ckpt import-hf models/qwen3 --output checkpoints/qwen3\n"
      "  ksa ckpt import-hf models/qwen3 --output checkpoints/qwen3_ksa --config ksa.yaml\n"
      "Parameters that the folder lacks are made as checkpoint.new_parameters says, and listed, as is every tensor "
      "that\n"
      "stays unused. A run can do the same by itself: checkpoint.load: DIR. Fields of config.json that cannot be\n"
      "honoured are refused by name (78).");
  command->callback([options] { Import(*options); });
}

}  // namespace

void AddCkptModelCommands(CLI::App& group) {
  AddDiff(group);
  AddAverage(group);
  AddExport(group);
  AddImport(group);
}

}  // namespace ksa
