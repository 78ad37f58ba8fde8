// The command line as a whole: help where it is asked for, and what is said of a line that is wrong.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace ksa {

// Before commands are added to `app`, which take its ways over.
void PrepareCommandLine(CLI::App& app);

// Puts commands under a title of their own in the help of `app`.
void GroupCommands(CLI::App& app, const std::string& group, const std::vector<std::string>& names);

// Parses `arguments` (without the program's name) and runs the command's callback, whose errors pass through. Help and
// version are printed. `help COMMAND...` is `COMMAND... --help`. Error(kUsage): a command or an option that is not
// known (with the nearest one), a value that is missing or not allowed.
void ParseCommandLine(CLI::App& app, std::vector<std::string> arguments);

}  // namespace ksa
