// `ksa report RUN-or-SWEEP... --output FILE.html`: plots of runs and sweeps on one page.
#pragma once

#include <CLI/CLI.hpp>

#include "trainer/observe/invocation.h"

namespace ksa {

// `invocation` lives as long as the command.
void AddReportCommand(CLI::App& app, const Invocation& invocation);

}  // namespace ksa
