// `--color auto|always|never`, the same for the program and each of its commands.
#pragma once

#include <CLI/CLI.hpp>

#include "trainer/observe/color.h"

namespace ksa {

// Adds it to `app` and to all commands below it, so that it may stand before or behind a command's name. Call it when
// the commands are there; `color` must live as long as they.
void AddColorOption(CLI::App& app, ColorChoice& color);

}  // namespace ksa
