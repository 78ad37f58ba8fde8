// The `ksa` program: one sub-command a file under trainer/commands.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <system_error>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "data/files/file_error.h"
#include "kernels/core/error.h"
#include "kernels/core/gpu.h"
#include "trainer/commands/ablate.h"
#include "trainer/commands/arguments.h"
#include "trainer/commands/bench.h"
#include "trainer/commands/check.h"
#include "trainer/commands/ckpt.h"
#include "trainer/commands/color_option.h"
#include "trainer/commands/command_line.h"
#include "trainer/commands/command_result.h"
#include "trainer/commands/compare.h"
#include "trainer/commands/completion.h"
#include "trainer/commands/data_commands.h"
#include "trainer/commands/doctor.h"
#include "trainer/commands/eval.h"
#include "trainer/commands/generate.h"
#include "trainer/commands/inspect.h"
#include "trainer/commands/plan.h"
#include "trainer/commands/report.h"
#include "trainer/commands/train.h"
#include "trainer/observe/invocation.h"
#include "trainer/run/stop_signal.h"
#include "trainer/version.h"

namespace {

// Shells leave a ~ behind an = as it is, and a folder of that name is never meant.
void RefuseTilde(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const size_t equals = argument.starts_with("--") ? argument.find('=') : std::string_view::npos;
    const std::string_view value = equals == std::string_view::npos ? "" : argument.substr(equals + 1);
    if (value == "~" || value.starts_with("~/")) {
      ksa::Fail(ksa::ExitCode::kUsage,
                "{}: the shell does not replace a ~ behind '='; write {} {}, with a space, or the whole path",
                argument,
                argument.substr(0, equals),
                value);
    }
  }
}

constexpr const char* kFirstSteps = R"(From text to a model:
  ksa data tokenize --input books/*.txt --output runs/corpus/books --tokenizer byte --documents file --validation-fraction 0.01
  ksa check books.yaml
  ksa train books.yaml
  ksa generate runs/books --prompt "Once"

`ksa COMMAND --help` shows what a command takes, with examples. The guide: docs/user-guide.md; exit codes:
docs/exit-codes.md.)";

// Exit codes: docs/exit-codes.md.
ksa::CommandResult Run(int argc, char** argv, ksa::Invocation& invocation) {
  RefuseTilde(argc, argv);
  ksa::CommandResult result;
  CLI::App app{"Pretrains language models with Kwai Summary Attention", "ksa"};
  ksa::PrepareCommandLine(app);
  app.set_version_flag("--version", "ksa " + invocation.version, "print the version");
  app.require_subcommand(1);
  ksa::AddDataCommands(app);
  ksa::AddCheckCommand(app);
  ksa::AddPlanCommand(app);
  ksa::AddTrainCommand(app, invocation, result);
  ksa::AddAblateCommand(app, result);
  ksa::AddEvalCommand(app);
  ksa::AddGenerateCommand(app);
  ksa::AddInspectCommand(app);
  ksa::AddCompareCommand(app);
  ksa::AddReportCommand(app, invocation);
  ksa::AddCkptCommand(app);
  ksa::AddBenchCommand(app);
  ksa::AddDoctorCommand(app, result);
  ksa::AddCompletionCommand(app);
  ksa::AddColorOption(app, invocation.color);
  ksa::GroupCommands(app, "Before training", {"data", "check", "plan"});
  ksa::GroupCommands(app, "Training", {"train", "ablate"});
  ksa::GroupCommands(app, "Results", {"eval", "generate", "inspect", "compare", "report", "ckpt"});
  ksa::GroupCommands(app, "This machine", {"doctor", "bench", "completion"});
  app.footer(kFirstSteps);
  ksa::ParseCommandLine(app, ksa::ArgumentsOf(argc, argv));
  return result;
}

// One check for all commands: what was printed has arrived.
void CheckPrinted(const ksa::CommandResult& result) {
  errno = 0;
  const bool failed = std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
  if (!failed || !result.prints_result) {
    return;
  }
  if (errno == 0) {  // it failed before, and what it said then is gone
    ksa::Fail(ksa::ExitCode::kIo, "standard output: cannot be written");
  }
  ksa::FailFile(ksa::FileUse::kWrite, errno, "standard output", "cannot be written");
}

ksa::CommandResult RunAndCheck(int argc, char** argv, ksa::Invocation& invocation) {
  try {
    const ksa::CommandResult result = Run(argc, argv, invocation);
    CheckPrinted(result);
    return result;
  } catch (const std::system_error& error) {  // what fmt throws where printing fails
    if (std::ferror(stdout) != 0) {
      ksa::FailFile(ksa::FileUse::kWrite, error.code().value(), "standard output", "cannot be written");
    }
    throw;
  }
}

// What a GPU that never gets done holds up are the handlers at exit, too.
int End(int code) {
  if (ksa::GpusAreAbandoned()) {
    static_cast<void>(std::fflush(nullptr));
    std::_Exit(code);
  }
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  // A file that outgrows its limit is then a failed write with a message, not the end of the process.
  std::signal(SIGXFSZ, SIG_IGN);
  // Before anything slow, such as reading a configuration: from here on a request is remembered.
  if (argc > 1 && (std::string_view(argv[1]) == "train" || std::string_view(argv[1]) == "ablate")) {
    ksa::CatchStopSignals();
  }
  ksa::Invocation invocation = {.version = ksa::ProgramVersion(), .arguments = {argv, argv + argc}};
  try {
    ksa::CommandResult result;
    ksa::ThrowAsErrors([&] { result = RunAndCheck(argc, argv, invocation); });
    return End(static_cast<int>(result.code));
  } catch (const ksa::Error& error) {
    ksa::PrintError(error.what(), invocation.color);
    return End(static_cast<int>(error.code()));
  }
}
