#include "trainer/commands/check.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "data/loader/open_source.h"
#include "kernels/core/error.h"
#include "trainer/commands/set_option.h"
#include "trainer/config/cell_report.h"
#include "trainer/config/load.h"
#include "trainer/config/sweep.h"
#include "trainer/loop/trainer.h"

namespace ksa {
namespace {

struct CheckOptions {
  std::string config;
  std::vector<std::string> sets;
  bool print = false;
  bool no_data = false;  // shards are not looked at
  bool data = false;     // shards have to be there
};

void Warn(const std::string& file, const std::string& warning) {
  fmt::print(stderr, "{}: warning: {}\n", file, warning);
}

// What is said of the data of one run, and which exit code it asks for.
struct DataFindings {
  std::vector<std::string> warnings;
  std::vector<std::string> errors;
  ExitCode code = ExitCode::kDone;  // of the first error
};

// Looks at the shards of configurations; what several runs ask alike is looked at once.
class DataLook {
 public:
  explicit DataLook(const CheckOptions& options) : options_(options) {}

  const DataFindings& At(const Config& config) {
    if (options_.no_data) {
      return nothing_;
    }
    const auto [found, added] = findings_.try_emplace(WhatIsAsked(config));
    if (added) {
      found->second = Look(config);
    }
    return found->second;
  }

 private:
  // All that opening a source depends on.
  static std::string WhatIsAsked(const Config& config) {
    std::string asked;
    for (const auto& [key, value] : FlattenConfig(config)) {
      if (key.starts_with("data.") || key == "training.sequence_length" || key == "model.vocab_size") {
        asked += fmt::format("{}={}\n", key, value);
      }
    }
    return asked;
  }

  [[nodiscard]] DataFindings Look(const Config& config) const {
    DataFindings findings;
    for (const SourceProblem& problem : FindSourceProblems(DatasetConfigOf(config))) {
      if (problem.absent && !options_.data) {
        findings.warnings.push_back(fmt::format(
            "{}: {} is not there (yet): nothing can be said of it; `ksa data tokenize` makes shards from text",
            problem.source,
            problem.path));
        continue;
      }
      findings.code = findings.errors.empty() ? problem.code : findings.code;
      findings.errors.push_back(fmt::format("{}: {}", problem.source, problem.message));
    }
    return findings;
  }

  const CheckOptions& options_;
  std::map<std::string, DataFindings> findings_;
  const DataFindings nothing_;
};

// How a file without a mistake is spoken of.
void SayGood(const CheckOptions& options, const std::string& what, bool absent) {
  const char* data = options.no_data ? "; its data was not looked at" : absent ? "" : ", and its data fits";
  fmt::print("{}: no mistakes found{}{}\n", options.config, what, data);
}

void CheckRun(const CheckOptions& options) {
  const LoadedConfig loaded = LoadConfig(options.config, options.sets);
  DataLook look(options);
  const DataFindings& data = look.At(loaded.config);
  for (const std::vector<std::string>* warnings : {&loaded.warnings, &data.warnings}) {
    for (const std::string& warning : *warnings) {
      Warn(options.config, warning);
    }
  }
  if (!data.errors.empty()) {
    Fail(data.code, "{}", fmt::join(data.errors, "\n"));
  }
  if (options.print) {
    fmt::print("{}", RenderConfigWithOrigins(loaded));
  } else {
    SayGood(options, "", !data.warnings.empty());
  }
}

// Loads the cells one after the other, as each is printed.
void PrintCells(const Sweep& sweep) {
  for (const SweepCell& cell : sweep.cells) {
    fmt::print("---  # cell {}\n{}", cell.label, RenderConfigWithOrigins(LoadConfig(sweep.base, cell.sets)));
  }
}

void CheckSweep(const CheckOptions& options) {
  const Sweep sweep = LoadSweep(options.config, options.sets);
  DataLook look(options);
  CellReport warnings;
  CellReport errors;
  ExitCode code = ExitCode::kDone;
  bool absent = false;
  for (const SweepCell& cell : sweep.cells) {
    const DataFindings& data = look.At(cell.config);
    for (const std::vector<std::string>* list : {&cell.warnings, &data.warnings}) {
      for (const std::string& warning : *list) {
        warnings.Add(cell.label, warning);
      }
    }
    for (const std::string& error : data.errors) {
      errors.Add(cell.label, error);
    }
    code = code == ExitCode::kDone ? data.code : code;
    absent = absent || !data.warnings.empty();
  }
  for (const std::vector<std::string>& list : {sweep.warnings, warnings.Lines(sweep.cells.size())}) {
    for (const std::string& warning : list) {
      Warn(options.config, warning);
    }
  }
  if (!errors.empty()) {
    throw Error(code, errors.Text(sweep.cells.size()));
  }
  if (options.print) {
    PrintCells(sweep);
  } else {
    SayGood(options, fmt::format(" in {} cells", sweep.cells.size()), absent);
  }
}

}  // namespace

void AddCheckCommand(CLI::App& app) {
  const auto options = std::make_shared<CheckOptions>();
  CLI::App* command = app.add_subcommand("check", "Report every mistake of a configuration or sweep at once");
  command->add_option("config", options->config, "run configuration or sweep (YAML)")
      ->required()
      ->type_name("CONFIG|SWEEP");
  AddSetOption(*command, options->sets, "replace a value: key=value, as often as needed");
  command->add_flag("--print", options->print, "print every value with its origin, as YAML");
  CLI::Option* no_data = command->add_flag("--no-data", options->no_data, "leave the shards of data.* alone");
  command->add_flag("--data", options->data, "a shard folder that is not there is a mistake (66), not a warning")
      ->excludes(no_data);
  command->footer(
      "Examples:\n"
      "  ksa check configs/train/quickstart.yaml\n"
      "  ksa check configs/train/quickstart.yaml --set optimizer.lr=1e-3 --print\n"
      "  ksa check configs/ablate/chunk_size.yaml      # all cells at once\n"
      "  ksa check run.yaml --set 'model.attention.pattern=[ksa, {kind: swa, window: 64}]'\n"
      "\n"
      "Starts no MPI, needs no GPU and writes nothing. Exit code 78 if there is a mistake, 65 if shards are there and "
      "do\n"
      "not fit: their vocabulary, their tokenizer, no sample of training.sequence_length. Of a sweep every cell is\n"
      "checked, and what cells share is said once.");
  command->callback([options] { IsSweepFile(options->config) ? CheckSweep(*options) : CheckRun(*options); });
}

}  // namespace ksa
