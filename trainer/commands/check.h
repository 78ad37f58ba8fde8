// `ksa check CONFIG`: every mistake of a configuration, without starting anything.
#pragma once

#include <CLI/CLI.hpp>

namespace ksa {

void AddCheckCommand(CLI::App& app);

}  // namespace ksa
