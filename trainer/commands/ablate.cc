#include "trainer/commands/ablate.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "data/files/paths.h"
#include "data/tools/terminal_line.h"
#include "kernels/core/error.h"
#include "parallel/comm/launcher.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/set_option.h"
#include "trainer/config/sweep.h"
#include "trainer/evaluate/child_process.h"
#include "trainer/evaluate/selection.h"
#include "trainer/evaluate/sweep_table.h"
#include "trainer/loop/micro_batch_size.h"
#include "trainer/step/cores.h"
#include "trainer/sweep/cell_pool.h"
#include "trainer/sweep/jobs.h"

namespace ksa {
namespace {

constexpr const char* kExamples = R"(Examples:
  ksa ablate sweep.yaml
  ksa ablate configs/ablate/chunk_size.yaml --set training.max_steps=200
  ksa ablate sweep.yaml --jobs 2      # two cells at a time
  ksa ablate sweep.yaml --launcher "mpirun -np 2 --bind-to none"
  ksa ablate sweep.yaml --list        # the cells, and which of them are done
  ksa ablate sweep.yaml --table       # the table of what is there; runs nothing

With --gpus 0,1,2,3 the cells are spread over these GPUs, each of which one cell sees; as many run at a time, or --jobs.

Every cell is a run of `ksa train` of its own, in <dir>/<cell>. The same line again skips the cells that are done and
resumes those that were cut off. Then <dir>/table.txt, .csv and .json hold the results. With several jobs the memory of
all is planned first (71 names the number that fits), and a cell's words go to console.txt in its folder. `select` in the
sweep keeps the best of the cells that differ in a learning rate, say, and runs the other seeds for it alone. A cell that
fails does not end the sweep; its exit code stands in the table, and the first such code is the command's. Ctrl-C, SIGHUP
or a file STOP in <dir> stop the running cells with a checkpoint, and the sweep with code 86; SIGUSR1 and SIGTERM with
85.)";

struct AblateOptions {
  std::string sweep;
  std::vector<std::string> sets;
  std::string launcher;
  std::optional<int> jobs;  // none: one, or as many as there are GPUs in `gpus`
  std::string gpus;
  bool list = false;
  bool table = false;
};

constexpr int kMostJobs = 1024;
constexpr int kDone = static_cast<int>(ExitCode::kDone);

// Where nobody reads any more the cells go on: the table is in files as well.
void Say(const std::string& text) {
  static_cast<void>(std::fwrite(text.data(), 1, text.size(), stdout));
  static_cast<void>(std::fflush(stdout));
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

const char* DescribePast(const SweepCell& cell, int code) {
  return code == kDone ? "done" : HasBegun(cell) ? "unfinished" : "-";
}

void ListCells(const Sweep& sweep, const std::vector<int>& codes) {
  const auto done = std::count(codes.begin(), codes.end(), kDone);
  for (size_t i = 0; i < codes.size(); ++i) {
    fmt::print("{:4}  {:10}  {}\n", i + 1, DescribePast(sweep.cells[i], codes[i]), sweep.cells[i].label);
  }
  fmt::print("{} cells in {}, {} done\n", codes.size(), sweep.dir, done);
}

// The cells that have to run, or may have to once a value is chosen.
std::vector<size_t> CellsToRun(const std::vector<int>& codes) {
  std::vector<size_t> cells;
  for (size_t i = 0; i < codes.size(); ++i) {
    if (codes[i] == kCellNotRun) {
      cells.push_back(i);
    }
  }
  return cells;
}

// What each of the jobs gets. Everything that cells could not share is found before one of them starts.
JobShare ShareOut(const AblateOptions& options, const Sweep& sweep, const std::vector<int>& codes) {
  JobShare share;
  const std::vector<size_t> cells = CellsToRun(codes);
  const std::vector<int> list = options.gpus.empty() ? std::vector<int>() : ParseGpuList(options.gpus);
  const bool on_cpu = std::all_of(sweep.cells.begin(), sweep.cells.end(), [](const SweepCell& cell) {
    return cell.config.run.device == DeviceChoice::kCpu;
  });
  if (!list.empty() && on_cpu) {
    Fail(ExitCode::kUsage, "--gpus {}: run.device is cpu in every cell; leave --gpus out", options.gpus);
  }
  const int asked = options.jobs.value_or(std::max<int>(1, static_cast<int>(list.size())));
  share.jobs = std::max(1, std::min(asked, static_cast<int>(cells.size())));
  if (list.empty() && share.jobs == 1) {
    return share;
  }
  const std::vector<int64_t> free = FreeGpuBytes();
  share.gpus = NamesOfGpus(list, std::getenv("CUDA_VISIBLE_DEVICES"), free.size());
  JobMemory memory = {.host = FreeBytes(DeviceChoice::kCpu, 0, 1), .gpus = {}};
  for (const int number : list) {
    memory.gpus.push_back(free[static_cast<size_t>(number)]);
  }
  if (list.empty() && !free.empty()) {
    memory.gpus = {free.front()};  // the first that is seen is the one that cells take
  }
  if (share.jobs > 1) {
    CheckJobsFit(PlanCells(sweep, cells, !free.empty()), memory, share.jobs);
    share.threads = std::max(1, AvailableCores(1) / share.jobs);
  }
  return share;
}

ChildCommand CommandOf(const Sweep& sweep, size_t index, const AblateOptions& options, const JobShare& share, int job) {
  const SweepCell& cell = sweep.cells[index];
  ChildCommand command = {TrainCommand(sweep, cell, options.launcher), {}, ""};
  if (share.threads > 0 && !cell.config.run.threads) {
    command.arguments.insert(command.arguments.end(), {"--set", fmt::format("run.threads={}", share.threads)});
  }
  if (!share.gpus.empty()) {
    command.environment.emplace_back("CUDA_VISIBLE_DEVICES", share.gpus[static_cast<size_t>(job) % share.gpus.size()]);
  }
  if (share.jobs > 1) {
    MakeFolders(cell.config.run.dir);
    command.output = cell.config.run.dir + "/console.txt";
  }
  return command;
}

// Runs what is not done; `codes` says what is. A stop leaves the remaining cells as they are.
std::vector<int> RunCells(const AblateOptions& options,
                          const Sweep& sweep,
                          const StopSignal& stop,
                          std::vector<int> codes) {
  const JobShare share = ShareOut(options, sweep, codes);
  TerminalBlock block(stdout);
  const TerminalLine terminal(stdout);
  CellPoolOptions pool = {.jobs = share.jobs};
  pool.command = [&](size_t cell, int job) { return CommandOf(sweep, cell, options, share, job); };
  if (!share.gpus.empty()) {
    pool.gpu = [&](int job) { return share.gpus[static_cast<size_t>(job) % share.gpus.size()]; };
  }
  pool.say = [&](const std::string& line) {
    block.Clear();
    Say(line + "\n");
  };
  pool.apart = share.jobs > 1;
  if (pool.apart && isatty(STDOUT_FILENO) == 1) {
    pool.draw = [&](const std::vector<RunningCell>& running, const SweepCounts& counts) {
      block.Show(ProgressLines(sweep, running, counts, terminal.Width()));
    };
  }
  std::vector<int> ended = CellPool(sweep, std::move(codes), std::move(pool)).Run(stop);
  block.Clear();
  return ended;
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

// The exit code of a sweep in which a cell was stopped, or the sweep itself (`asked`): a person's stop counts more.
ExitCode CodeOfStop(const std::vector<int>& codes, StopCause asked) {
  const auto person = static_cast<int>(ExitCode::kStoppedByPerson);
  if (std::find(codes.begin(), codes.end(), person) != codes.end()) {
    return ExitCode::kStoppedByPerson;
  }
  return std::any_of(codes.begin(), codes.end(), IsStopCode) ? ExitCode::kStopped : StopCode(asked);
}

// What `select` could not choose has no cell to go on with.
void FailWithoutChoice(const Sweep& sweep, const std::vector<CellRole>& roles) {
  for (size_t i = 0; i < roles.size(); ++i) {
    if (roles[i] == CellRole::kNoChoice) {
      Fail(ExitCode::kConfig,
           "{}: no value of {} can be chosen: of each a cell failed, or has no {} in its metrics.jsonl that is finite",
           sweep.cells[i].family.empty() ? "all cells" : sweep.cells[i].family,
           fmt::join(sweep.select->over, ", "),
           sweep.select->by);
    }
  }
}

// `asked`: who asked the sweep itself to stop.
void FailIfNotDone(const Sweep& sweep, const std::vector<int>& codes, StopCause asked) {
  const std::vector<CellRole> roles = SelectCells(sweep, ScoresOf(sweep, codes));
  size_t done = 0;
  size_t open = 0;
  std::vector<size_t> failed;
  for (size_t i = 0; i < codes.size(); ++i) {
    done += codes[i] == kDone ? 1 : 0;
    const bool runs = MayRun(roles[i]) || roles[i] == CellRole::kWaiting;
    open += IsStopCode(codes[i]) || (codes[i] == kCellNotRun && runs) ? 1 : 0;
    if (CellFailed(codes[i])) {
      failed.push_back(i);
    }
  }
  if (open > 0) {
    Fail(CodeOfStop(codes, asked),
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
  FailWithoutChoice(sweep, roles);
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
  const std::vector<int> codes = RunCells(options, sweep, stop, past);
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
  CLI::Option* launcher =
      command
          ->add_option("--launcher", options->launcher, "what starts a cell on several ranks, such as \"mpirun -np 2\"")
          ->type_name("COMMAND");
  command->add_option("--jobs", options->jobs, "cells at a time; default: 1, or one a GPU of --gpus")
      ->type_name("N")
      ->check(WholeNumber(1, kMostJobs))
      ->excludes(launcher);
  command->add_option("--gpus", options->gpus, "GPUs that the cells are spread over, one each: 0,1,2,3")
      ->type_name("LIST")
      ->excludes(launcher);
  command->add_flag("--list", options->list, "print the cells and which of them are done; run nothing");
  command->add_flag("--table", options->table, "make the table of what is there; run nothing");
  command->footer(kExamples);
  command->callback([options, &result] {
    result.prints_result = options->list || options->table;
    Ablate(*options);
  });
}

}  // namespace ksa
