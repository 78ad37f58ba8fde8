// A command as a person would type it.
#pragma once

#include <string>
#include <vector>

namespace ksa {

// One word of a shell's line, quoted where a shell would read it otherwise.
[[nodiscard]] std::string ShellWord(const std::string& word);

// The words of a command in one line, which a shell takes apart into the same words.
[[nodiscard]] std::string ShellLine(const std::vector<std::string>& words);

}  // namespace ksa
