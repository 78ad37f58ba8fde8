// `ksa ckpt`: what checkpoints there are, what is in one, and whether every byte of it is right; and what is made of
// them (ckpt_models.h).
#pragma once

#include <CLI/CLI.hpp>

namespace ksa {

void AddCkptCommand(CLI::App& app);

}  // namespace ksa
