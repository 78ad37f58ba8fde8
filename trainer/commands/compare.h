// `ksa compare RUN RUN...`: metrics and weights of runs side by side.
#pragma once

#include <CLI/CLI.hpp>

namespace ksa {

void AddCompareCommand(CLI::App& app);

}  // namespace ksa
