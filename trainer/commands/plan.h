// `ksa plan`: what a run will take, and the best meshes for it.
#pragma once

#include <CLI/CLI.hpp>

namespace ksa {

void AddPlanCommand(CLI::App& app);

}  // namespace ksa
