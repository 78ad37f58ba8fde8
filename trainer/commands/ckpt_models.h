// `ksa ckpt diff|average|export-hf|import-hf`: weights of several checkpoints, and Hugging Face folders.
#pragma once

#include <CLI/CLI.hpp>

namespace ksa {

void AddCkptModelCommands(CLI::App& group);

}  // namespace ksa
