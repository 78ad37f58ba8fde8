// `--set key=value ...`, the same for every command that reads a configuration.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "kernels/core/error.h"

namespace ksa {

// Call it after the command's own positionals; `sets` must live as long as the command. Both `--set a=1 --set b=2` and
// `--set a=1 b=2` give two values, and a file name behind a value stays the file name: what follows the first value is
// taken as positional, and the positionals after the command's own are values again.
inline void AddSetOption(CLI::App& command, std::vector<std::string>& sets, const std::string& description) {
  const auto append = [&sets](const std::vector<std::string>& values) {
    sets.insert(sets.end(), values.begin(), values.end());
  };
  command.add_option_function<std::vector<std::string>>("--set", append, description)
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  const auto append_rest = [append](const std::vector<std::string>& values) {
    for (const std::string& value : values) {
      if (value.find('=') == std::string::npos) {
        Fail(ExitCode::kUsage,
             "unexpected argument '{}': one file is enough, and values are key=value behind --set",
             value);
      }
    }
    append(values);
  };
  command.add_option_function<std::vector<std::string>>("values", append_rest)->group("");  // not shown in --help
}

}  // namespace ksa
