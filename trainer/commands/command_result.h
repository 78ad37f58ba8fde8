// What a command tells main besides errors, which are thrown.
#pragma once

#include "kernels/core/error.h"

namespace ksa {

struct CommandResult {
  ExitCode code = ExitCode::kDone;
  // What the command prints is its result: where it cannot be written the command has failed (kIo). False where files
  // hold all of it.
  bool prints_result = true;
};

}  // namespace ksa
