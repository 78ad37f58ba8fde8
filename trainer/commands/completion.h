// `ksa completion bash|zsh`: what a shell needs to complete ksa's commands, options, values and configuration keys.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace ksa {

// Add it last: it speaks of the commands that `app` has when it is run.
void AddCompletionCommand(CLI::App& app);

// The script, made of the declarations of `app`.
[[nodiscard]] std::string BashCompletion(const CLI::App& app);
[[nodiscard]] std::string ZshCompletion(const CLI::App& app);

}  // namespace ksa
