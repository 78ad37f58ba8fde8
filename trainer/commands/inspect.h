// `ksa inspect CKPT --text FILE`: what attention is spent on, and which summaries are used.
#pragma once

#include <CLI/CLI.hpp>

namespace ksa {

void AddInspectCommand(CLI::App& app);

}  // namespace ksa
