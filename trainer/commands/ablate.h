// `ksa ablate SWEEP`: every cell of a sweep, then one table.
#pragma once

#include <CLI/CLI.hpp>

namespace ksa {

void AddAblateCommand(CLI::App& app);

}  // namespace ksa
