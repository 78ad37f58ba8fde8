// `ksa ablate SWEEP`: every cell of a sweep, then one table.
#pragma once

#include <CLI/CLI.hpp>

#include "trainer/commands/command_result.h"

namespace ksa {

void AddAblateCommand(CLI::App& app, CommandResult& result);

}  // namespace ksa
