#include "trainer/commands/ablate.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "data/files/paths.h"
#include "kernels/core/error.h"
#include "parallel/comm/launcher.h"
#include "trainer/commands/set_option.h"
#include "trainer/config/sweep.h"
#include "trainer/evaluate/child_process.h"
#include "trainer/evaluate/sweep_table.h"
#include "trainer/observe/log_line.h"

namespace ksa {
namespace {

constexpr const char* kExamples = R"(Examples:
  ksa ablate sweep.yaml
  ksa ablate configs/ablate/chunk_size.yaml --set training.max_steps=200
  ksa ablate sweep.yaml --launcher "mpirun -np 2 --bind-to none"
  ksa ablate sweep.yaml --list        # the cells, and which of them are done
  ksa ablate sweep.yaml --table       # the table of what is there; runs nothing

Every cell is a run of `ksa train` of its own, one after the other, in <dir>/<cell>. The same line again skips the cells
that are done and resumes one that was cut off. Then <dir>/table.txt, .csv and .json hold the results. A cell that fails
does not end the sweep; its exit code stands in the table, and the first such code is the command's. Ctrl-C, SIGHUP or
a file STOP in <dir> stop the running cell with a checkpoint, and the sweep with code 86; SIGUSR1 and SIGTERM with 85.)";

struct AblateOptions {
  std::string sweep;
  std::vector<std::string> sets;
  std::string launcher;
  bool list = false;
  bool table = false;
};

constexpr int kDone = static_cast<int>(ExitCode::kDone);

// Where nobody reads any more the cells go on: the table is in files as well.
void Say(const std::string& text) {
  static_cast<void>(std::fwrite(text.data(), 1, text.size(), stdout));
  static_cast<void>(std::fflush(stdout));
}

bool IsStop(int code) {
  return code == static_cast<int>(ExitCode::kStopped) || code == static_cast<int>(ExitCode::kStoppedByPerson);
}

ExitCode StopCode(StopCause cause) {
  return cause == StopCause::kPerson ? ExitCode::kStoppedByPerson : ExitCode::kStopped;
}

// Cells are processes with an MPI of their own, which cannot be started below a rank of another MPI job.
void RefuseMpirun() {
  const std::optional<LauncherTasks> tasks = TasksOfLauncher();
  const std::string several = tasks.has_value() ? tasks->variable : "";
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", several.c_str()}) {
    if (std::getenv(name) != nullptr) {
      Fail(ExitCode::kUsage,
           "ablate was started by an MPI launcher ({} is set); start it by itself, and give the launcher of its cells: "
           "ksa ablate SWEEP --launcher \"mpirun -np N\"",
           name);
    }
  }
}

std::vector<std::string> TrainCommand(const Sweep& sweep, const SweepCell& cell, const std::string& launcher) {
  std::vector<std::string> words;
  std::istringstream stream(launcher);
  for (std::string word; stream >> word;) {
    words.push_back(word);
  }
  words.push_back(ResolvePath("/proc/self/exe"));
  words.insert(words.end(), {"train", sweep.base});
  for (const std::string& set : cell.sets) {
    words.insert(words.end(), {"--set", set});
  }
  return words;
}

// Done, or not run as far as is known.
std::vector<int> CodesOfThePast(const Sweep& sweep) {
  std::vector<int> codes;
  for (const SweepCell& cell : sweep.cells) {
    codes.push_back(IsComplete(cell) ? kDone : kCellNotRun);
  }
  return codes;
}

void ListCells(const Sweep& sweep, const std::vector<int>& codes) {
  const auto done = std::count(codes.begin(), codes.end(), kDone);
  for (size_t i = 0; i < codes.size(); ++i) {
    fmt::print("{:4}  {:5}  {}\n", i + 1, codes[i] == kDone ? "done" : "-", sweep.cells[i].label);
  }
  fmt::print("{} cells in {}, {} done\n", codes.size(), sweep.dir, done);
}

// Runs what is not done; `codes` says what is. A stop leaves the remaining cells as they are.
std::vector<int> RunCells(const Sweep& sweep,
                          const std::string& launcher,
                          const StopSignal& stop,
                          std::vector<int> codes) {
  using Clock = std::chrono::steady_clock;
  auto left = std::count(codes.begin(), codes.end(), kCellNotRun);
  int64_t ran = 0;
  const Clock::time_point start = Clock::now();
  for (size_t i = 0; i < sweep.cells.size(); ++i) {
    const SweepCell& cell = sweep.cells[i];
    std::string title = fmt::format("cell {}/{}: {}", i + 1, sweep.cells.size(), cell.label);
    if (codes[i] == kDone) {
      Say(title + ": already done\n");
      continue;
    }
    if (stop.Requested()) {
      break;
    }
    if (ran > 0) {
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      title += fmt::format(" ({} cells left, about {})",
                           left,
                           FormatDuration(seconds / static_cast<double>(ran) * static_cast<double>(left)));
    }
    Say(title + "\n");
    ++ran;
    --left;
    codes[i] = RunChild(TrainCommand(sweep, cell, launcher), stop);
    if (stop.Requested() && codes[i] != kDone) {
      codes[i] = static_cast<int>(StopCode(stop.Cause()));  // also of a child that could not handle the signal yet
    }
    if (IsStop(codes[i])) {
      break;
    }
  }
  return codes;
}

ExitCode KnownCode(int code) {
  using enum ExitCode;
  for (const ExitCode known :
       std::array{kBadData, kConfig, kMissingInput, kDiverged, kOutOfMemory, kCannotCreate, kIo, kPeerLost, kUsage}) {
    if (code == static_cast<int>(known)) {
      return known;
    }
  }
  return kInternal;
}

// `asked`: who asked the sweep itself to stop.
void FailIfNotDone(const Sweep& sweep, const std::vector<int>& codes, StopCause asked) {
  size_t done = 0;
  std::vector<size_t> failed;
  for (size_t i = 0; i < codes.size(); ++i) {
    done += codes[i] == kDone ? 1 : 0;
    if (codes[i] != kDone && !IsStop(codes[i]) && codes[i] != kCellNotRun) {
      failed.push_back(i);
    }
  }
  if (done + failed.size() < codes.size()) {
    const auto stopped = std::find_if(codes.begin(), codes.end(), IsStop);
    Fail(stopped == codes.end() ? StopCode(asked) : static_cast<ExitCode>(*stopped),
         "stopped with {} of {} cells done; run the same command again to go on",
         done,
         codes.size());
  }
  if (!failed.empty()) {
    Fail(KnownCode(codes[failed.front()]),
         "{} of {} cells failed, the first is {}; the table has the exit codes, {}/<cell>/log.txt what went before",
         failed.size(),
         codes.size(),
         sweep.cells[failed.front()].label,
         sweep.dir);
  }
}

void Ablate(const AblateOptions& options) {
  RefuseMpirun();
  const Sweep sweep = LoadSweep(options.sweep, options.sets);
  for (const std::string& warning : sweep.warnings) {
    fmt::print(stderr, "{}: warning: {}\n", options.sweep, warning);
  }
  const std::vector<int> past = CodesOfThePast(sweep);
  if (options.list) {
    ListCells(sweep, past);
    return;
  }
  if (options.table) {
    const Table table = SummarizeSweep(sweep, past);
    WriteSweepTable(sweep, table);
    fmt::print("{}", RenderSweepTable(sweep, table));
    return;
  }
  MakeFolders(sweep.dir);  // where the table will be: not to be found out after the last cell
  const StopSignal stop(sweep.dir + "/STOP");
  const std::vector<int> codes = RunCells(sweep, options.launcher, stop, past);
  const Table table = SummarizeSweep(sweep, codes);
  WriteSweepTable(sweep, table);
  Say("\n" + RenderSweepTable(sweep, table));
  const StopCause asked = stop.Cause();
  stop.Consume();  // also one that came when the last cell was done
  FailIfNotDone(sweep, codes, asked);
}

}  // namespace

void AddAblateCommand(CLI::App& app, CommandResult& result) {
  const auto options = std::make_shared<AblateOptions>();
  CLI::App* command = app.add_subcommand("ablate", "Train every cell of a sweep, then print one table");
  command->add_option("sweep", options->sweep, "sweep file (YAML)")->required()->type_name("SWEEP");
  AddSetOption(*command, options->sets, "replace a value in every cell: key=value, as often as needed");
  command->add_option("--launcher", options->launcher, "what starts a cell on several ranks, such as \"mpirun -np 2\"")
      ->type_name("COMMAND");
  command->add_flag("--list", options->list, "print the cells and which of them are done; run nothing");
  command->add_flag("--table", options->table, "make the table of what is there; run nothing");
  command->footer(kExamples);
  command->callback([options, &result] {
    result.prints_result = options->list || options->table;
    Ablate(*options);
  });
}

}  // namespace ksa
