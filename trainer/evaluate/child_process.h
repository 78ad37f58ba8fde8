// Runs a program to its end, passing on requests to stop.
#pragma once

#include <string>
#include <vector>

#include "trainer/run/stop_signal.h"

namespace ksa {

// Starts `arguments` (the first is the program, looked for in PATH when it has no '/') with this process's input and
// output, and waits. Once `stop` has a request, the child gets SIGUSR1. The child gets SIGTERM when this process dies.
// Returns its exit code, or 128 + n when signal n ended it. Error(kInternal) when it cannot be started, or when nobody
// can say how it ended.
[[nodiscard]] int RunChild(const std::vector<std::string>& arguments, const StopSignal& stop);

}  // namespace ksa
