#include "trainer/commands/check.h"

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "trainer/commands/set_option.h"
#include "trainer/config/load.h"

namespace ksa {
namespace {

struct CheckOptions {
  std::string config;
  std::vector<std::string> sets;
  bool print = false;
};

void Check(const CheckOptions& options) {
  const LoadedConfig loaded = LoadConfig(options.config, options.sets);
  for (const std::string& warning : loaded.warnings) {
    fmt::print(stderr, "{}: warning: {}\n", options.config, warning);
  }
  if (options.print) {
    fmt::print("{}", RenderConfigWithOrigins(loaded));
  } else {
    fmt::print("{}: no mistakes found\n", options.config);
  }
}

}  // namespace

void AddCheckCommand(CLI::App& app) {
  const auto options = std::make_shared<CheckOptions>();
  CLI::App* command = app.add_subcommand("check", "Report every mistake of a configuration at once");
  command->add_option("config", options->config, "run configuration (YAML)")->required()->type_name("CONFIG");
  AddSetOption(*command, options->sets, "replace a value: key=value, as often as needed");
  command->add_flag("--print", options->print, "print every value with its origin, as YAML");
  command->footer(
      "Examples:\n"
      "  ksa check configs/train/quickstart.yaml\n"
      "  ksa check configs/train/quickstart.yaml --set optimizer.lr=1e-3 --print\n"
      "  ksa check run.yaml --set 'model.attention.pattern=[ksa, {kind: swa, window: 64}]'\n"
      "Starts no MPI, needs no GPU and writes nothing. Exit code 78 if there is a mistake.");
  command->callback([options] { Check(*options); });
}

}  // namespace ksa
