// `ksa train CONFIG`: pretrain, or resume.
#pragma once

#include <CLI/CLI.hpp>

namespace ksa {

void AddTrainCommand(CLI::App& app);

}  // namespace ksa
