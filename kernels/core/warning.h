// What a kernel or a library below the program has to say while it goes on.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace ksa {

// Prints "ksa: warning: TEXT" on stderr, each text once a process. From any thread.
void WarnOnce(const std::string& text);

// The texts that were said so far, in order, from number `first` (0: the first) on: for who keeps a record.
[[nodiscard]] std::vector<std::string> WarningsSaid(size_t first = 0);

}  // namespace ksa
