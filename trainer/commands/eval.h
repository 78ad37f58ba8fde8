// `ksa eval CKPT --data DIR`: loss on held-out shards, and loss by position.
#pragma once

#include <CLI/CLI.hpp>

namespace ksa {

void AddEvalCommand(CLI::App& app);

}  // namespace ksa
