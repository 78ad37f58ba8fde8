// How the program was started: what every command knows besides its own options.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "trainer/observe/color.h"

namespace ksa {

struct Invocation {
  std::string version;                 // of the program, with its commit
  std::vector<std::string> arguments;  // the command line, the program's name as it was typed first
  std::chrono::system_clock::time_point begin = std::chrono::system_clock::now();
  ColorChoice color = ColorChoice::kAuto;
};

}  // namespace ksa
