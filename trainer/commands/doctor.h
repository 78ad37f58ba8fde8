// `ksa doctor`: what this machine has for runs, what is wrong, and how to mend it.
#pragma once

#include <CLI/CLI.hpp>

#include "trainer/commands/command_result.h"

namespace ksa {

// `result` outlives the app: its code is kUnavailable where something stops a run.
void AddDoctorCommand(CLI::App& app, CommandResult& result);

}  // namespace ksa
