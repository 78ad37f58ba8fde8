#include "trainer/commands/ckpt.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "kernels/core/error.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/verify.h"
#include "trainer/commands/ckpt_models.h"
#include "trainer/observe/log_line.h"
#include "trainer/observe/table.h"

namespace ksa {
namespace {

constexpr std::string_view kWeights = "weights/";

struct CkptOptions {
  std::string path;
  bool config = false;
};

std::string FolderNameOf(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

int64_t BytesOf(const Manifest& manifest) {
  int64_t bytes = 0;
  for (const TensorEntry& tensor : manifest.tensors) {
    bytes += tensor.size() * SizeOf(tensor.dtype);
  }
  return bytes;
}

std::set<std::string> FilesOf(const Manifest& manifest) {
  std::set<std::string> files;
  for (const TensorEntry& tensor : manifest.tensors) {
    for (const TensorPiece& piece : tensor.pieces) {
      files.insert(piece.file);
    }
  }
  return files;
}

// --- ls

void List(const CkptOptions& options) {
  Table table({{"checkpoint", "checkpoint"},
               {"step", "step"},
               {"tokens", "tokens"},
               {"size", "size"},
               {"files", "files"},
               {"run_id", "run"},
               {"state", "manifest"}});
  const std::vector<std::string> paths = ListCheckpoints(options.path);
  if (paths.empty()) {
    Fail(ExitCode::kMissingInput, "{}: there is no checkpoint in this folder", options.path);
  }
  for (const std::string& path : paths) {
    try {
      const Manifest manifest = ReadCheckpoint(path).manifest;
      table.AddRow({FolderNameOf(path),
                    manifest.meta.step,
                    FormatCount(static_cast<double>(manifest.meta.tokens)),
                    FormatBytes(BytesOf(manifest)),
                    static_cast<int64_t>(FilesOf(manifest).size()),
                    manifest.meta.run_id,
                    "good"});
    } catch (const Error& error) {
      if (error.code() == ExitCode::kMissingInput) {
        continue;  // pruned since it was listed
      }
      std::vector<TableCell> row(table.columns().size());
      row.front() = FolderNameOf(path);
      row.back() = std::string(error.what());
      table.AddRow(std::move(row));
    }
  }
  fmt::print("{}", table.Text());
}

// --- inspect

// layers.12.mlp.up_proj.weight -> layers.*.mlp.up_proj.weight: the parameters of all layers make one row.
std::string GroupOf(const std::string& name) {
  std::string group;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool number = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    group += (begin > 0 ? "." : "") + (number ? "*" : part);
    begin = end + 1;
  }
  return group;
}

void PrintGroups(const Manifest& manifest) {
  struct Group {
    int64_t tensors = 0;
    int64_t elements = 0;
    std::string shape;
  };

  std::vector<std::string> order;
  std::map<std::string, Group> groups;
  for (const TensorEntry& tensor : manifest.tensors) {
    if (!tensor.name.starts_with(kWeights)) {
      continue;
    }
    const std::string name = GroupOf(tensor.name.substr(kWeights.size()));
    const std::string shape = fmt::format("[{}]", fmt::join(tensor.shape, ", "));
    const auto [entry, added] = groups.try_emplace(name);
    if (added) {
      order.push_back(name);
      entry->second.shape = shape;
    }
    ++entry->second.tensors;
    entry->second.elements += tensor.size();
    if (entry->second.shape != shape) {
      entry->second.shape = "several";
    }
  }
  Table table({{"parameter", "parameter"}, {"shape", "shape"}, {"tensors", "tensors"}, {"elements", "elements"}});
  for (const std::string& name : order) {
    const Group& group = groups[name];
    table.AddRow({name, group.shape, group.tensors, group.elements});
  }
  fmt::print("{}", table.Text());
}

void Inspect(const CkptOptions& options) {
  const Checkpoint checkpoint = OpenCheckpoint(options.path);
  const CheckpointMeta& meta = checkpoint.manifest.meta;
  if (options.config) {
    fmt::print("{}", meta.configuration);
    return;
  }
  int64_t parameters = 0;
  bool moments = false;
  DType dtype = DType::kF32;
  for (const TensorEntry& tensor : checkpoint.manifest.tensors) {
    parameters += tensor.name.starts_with(kWeights) ? tensor.size() : 0;
    moments = moments || !tensor.name.starts_with(kWeights);
    dtype = tensor.dtype;
  }
  fmt::print("checkpoint        {}\n", checkpoint.path);
  fmt::print("run               {}\n", meta.run_id);
  fmt::print("step              {}\n", meta.step);
  fmt::print("tokens            {} ({})\n", meta.tokens, FormatCount(static_cast<double>(meta.tokens)));
  fmt::print("samples           {}\n", meta.samples);
  fmt::print(
      "mesh              data {} x context {} x tensor {}\n", meta.mesh.data, meta.mesh.context, meta.mesh.tensor);
  fmt::print("data fingerprint  {}\n", meta.data_fingerprint);
  if (meta.tokenizer.has_value()) {
    fmt::print("tokenizer         {} (xxh3 {:016x})\n", meta.tokenizer->file, meta.tokenizer->xxh3);
  }
  if (meta.resumed_from.has_value()) {
    fmt::print("began from        step {} of run {}\n", meta.resumed_from->step, meta.resumed_from->run_id);
  }
  fmt::print("parameters        {} ({})\n", parameters, FormatCount(static_cast<double>(parameters)));
  fmt::print("holds             weights{}, {}\n", moments ? ", exp_avg, exp_avg_sq" : "", NameOf(dtype));
  fmt::print("size              {} in {} file(s)\n\n",
             FormatBytes(BytesOf(checkpoint.manifest)),
             FilesOf(checkpoint.manifest).size());
  PrintGroups(checkpoint.manifest);
}

// --- verify

// What is wrong with one checkpoint; its line is printed. None when it was pruned meanwhile.
std::vector<Fault> VerifyOne(const std::string& path, Communicator& self) {
  const int64_t step = StepOfName(FolderNameOf(path));
  const Examined examined = Examine(path, step >= 0 ? std::optional(step) : std::nullopt, self);
  if (examined.gone) {
    fmt::print("{}: gone: it was pruned or moved while it was read\n", path);
    return {};
  }
  if (!examined.good()) {
    const bool damaged = RefusalOf(path, examined.faults).code == ExitCode::kBadData;
    fmt::print("{}: {}\n", path, damaged ? "DAMAGED" : "CANNOT BE READ");
    return examined.faults;
  }
  const Manifest& manifest = examined.checkpoint.manifest;
  fmt::print("{}: good: {} tensors, {} in {} file(s)\n",
             path,
             manifest.tensors.size(),
             FormatBytes(BytesOf(manifest)),
             FilesOf(manifest).size());
  return {};
}

void Verify(const CkptOptions& options) {
  const std::vector<std::string> paths =
      IsCheckpoint(options.path) ? std::vector<std::string>{WithoutSlash(options.path)} : ListCheckpoints(options.path);
  if (paths.empty()) {
    Fail(ExitCode::kMissingInput, "{}: there is no checkpoint in this folder", options.path);
  }
  const std::unique_ptr<Communicator> self = MakeSelfCommunicator();
  std::vector<std::string> texts;
  ExitCode code = ExitCode::kIo;
  for (const std::string& path : paths) {
    for (const Fault& fault : VerifyOne(path, *self)) {
      texts.push_back(fault.text);
      code = fault.code == ExitCode::kBadData ? fault.code : code;
    }
  }
  if (!texts.empty()) {
    Fail(code, "{} fault(s):\n  {}", texts.size(), fmt::join(texts, "\n  "));
  }
}

}  // namespace

void AddCkptCommand(CLI::App& app) {
  CLI::App* group = app.add_subcommand("ckpt", "Checkpoints and Hugging Face folders");
  group->require_subcommand(1);
  const auto options = std::make_shared<CkptOptions>();

  CLI::App* list = group->add_subcommand("ls", "The checkpoints of a run");
  list->add_option("run", options->path, "run folder, or its checkpoints folder")->required()->type_name("RUN");
  list->footer("Example:\n  ksa ckpt ls runs/quickstart\nReads manifests only; `ksa ckpt verify` reads everything.");
  list->callback([options] { List(*options); });

  CLI::App* inspect = group->add_subcommand("inspect", "What a checkpoint holds");
  inspect->add_option("checkpoint", options->path, "checkpoint, or a run folder: its newest")
      ->required()
      ->type_name("CKPT");
  inspect->add_flag("--config", options->config, "print the configuration of its run instead, as YAML");
  inspect->footer(
      "Examples:\n"
      "  ksa ckpt inspect runs/quickstart/checkpoints/step_00001000\n"
      "  ksa ckpt inspect runs/quickstart --config > same_again.yaml");
  inspect->callback([options] { Inspect(*options); });

  CLI::App* verify = group->add_subcommand("verify", "Check every byte of a checkpoint, or of all of a run");
  verify->add_option("checkpoint", options->path, "checkpoint, or a run folder: all of its")
      ->required()
      ->type_name("CKPT");
  verify->footer(
      "Examples:\n"
      "  ksa ckpt verify runs/quickstart/checkpoints/step_00001000\n"
      "  ksa ckpt verify runs/quickstart\n"
      "Exit code 65, and every fault with its file and tensor, if something is damaged; 74 if something cannot be "
      "read.");
  verify->callback([options] { Verify(*options); });

  AddCkptModelCommands(*group);
}

}  // namespace ksa
