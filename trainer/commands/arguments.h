// The command line as the parser should see it.
#pragma once

#include <string>
#include <vector>

namespace ksa {

// The arguments without the program's name. `--name=` with nothing behind it becomes `--name ""`: the parser would take
// the next argument for the value.
[[nodiscard]] inline std::vector<std::string> ArgumentsOf(int argc, const char* const* argv) {
  std::vector<std::string> arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const size_t equals = argument.find('=');
    if (argument.starts_with("--") && equals == argument.size() - 1) {
      arguments.push_back(argument.substr(0, equals));
      arguments.emplace_back();
    } else {
      arguments.push_back(argument);
    }
  }
  return arguments;
}

}  // namespace ksa
