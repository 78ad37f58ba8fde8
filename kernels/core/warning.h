// What a kernel or a library below the program has to say while it goes on.
#pragma once

#include <string>

namespace ksa {

// Prints "ksa: warning: TEXT" on stderr, each text once a process. From any thread.
void WarnOnce(const std::string& text);

}  // namespace ksa
