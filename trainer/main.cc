// The `ksa` program: one sub-command a file under trainer/commands.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "kernels/core/error.h"
#include "kernels/core/gpu.h"
#include "trainer/commands/ablate.h"
#include "trainer/commands/arguments.h"
#include "trainer/commands/bench.h"
#include "trainer/commands/check.h"
#include "trainer/commands/ckpt.h"
#include "trainer/commands/compare.h"
#include "trainer/commands/data_commands.h"
#include "trainer/commands/eval.h"
#include "trainer/commands/generate.h"
#include "trainer/commands/train.h"

namespace {

// Exit codes: docs/exit-codes.md.
int Run(int argc, char** argv) {
  CLI::App app{"Native pretraining of Kwai Summary Attention language models", "ksa"};
  app.set_version_flag("--version", KSA_VERSION);
  app.require_subcommand(1);
  ksa::AddTrainCommand(app);
  ksa::AddCheckCommand(app);
  ksa::AddDataCommands(app);
  ksa::AddCkptCommand(app);
  ksa::AddCompareCommand(app);
  ksa::AddAblateCommand(app);
  ksa::AddBenchCommand(app);
  ksa::AddEvalCommand(app);
  ksa::AddGenerateCommand(app);
  try {
    std::vector<std::string> arguments = ksa::ArgumentsOf(argc, argv);
    std::reverse(arguments.begin(), arguments.end());  // the parser takes them from the back
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : static_cast<int>(ksa::ExitCode::kUsage);
  }
  return 0;
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
  try {
    int code = 0;
    ksa::ThrowAsErrors([&] { code = Run(argc, argv); });
    return End(code);
  } catch (const ksa::Error& error) {
    fmt::print(stderr, "ksa: {}\n", error.what());
    return End(static_cast<int>(error.code()));
  }
}
