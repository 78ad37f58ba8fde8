// `ksa train CONFIG`: pretrain, or resume.
#pragma once

#include <CLI/CLI.hpp>

#include "trainer/commands/command_result.h"

namespace ksa {

void AddTrainCommand(CLI::App& app, CommandResult& result);

}  // namespace ksa
