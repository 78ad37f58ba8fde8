// `ksa train CONFIG`: pretrain, or resume.
#pragma once

#include <CLI/CLI.hpp>

#include "trainer/commands/command_result.h"
#include "trainer/observe/invocation.h"

namespace ksa {

// `invocation` is read when the command runs.
void AddTrainCommand(CLI::App& app, const Invocation& invocation, CommandResult& result);

}  // namespace ksa
