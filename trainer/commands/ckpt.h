// `ksa ckpt ls|inspect|verify`: what checkpoints there are, what is in one, and whether every byte of it is right.
#pragma once

#include <CLI/CLI.hpp>

namespace ksa {

void AddCkptCommand(CLI::App& app);

}  // namespace ksa
