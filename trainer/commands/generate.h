// `ksa generate CKPT --prompt TEXT`: continue a text.
#pragma once

#include <CLI/CLI.hpp>

namespace ksa {

void AddGenerateCommand(CLI::App& app);

}  // namespace ksa
