// What a failed call of the file system means: one place turns errno into an exit code and a message.
#pragma once

#include <string>
#include <string_view>

#include "kernels/core/error.h"

namespace ksa {

// What a path was wanted for.
enum class FileUse : int {
  kRead,    // an input
  kCreate,  // an output that is new
  kWrite,   // an output that is open
};

// `error` is an errno. Of an input: kMissingInput when the path leads nowhere (no such file, a loop of links, a name
// that is too long), kIo when something is there and can't be had (no permission, a disk that fails). Of a new output:
// kCannotCreate when another path would do (no permission, not a folder, read-only), kIo when the disk or the process
// is at its limits. Of an open output: kIo.
[[nodiscard]] ExitCode CodeOf(FileUse use, int error);

// Throws Error(CodeOf(use, error)): "PATH: WHAT: the words of errno".
[[noreturn]] void FailFile(FileUse use, int error, std::string_view path, std::string_view what);

}  // namespace ksa
