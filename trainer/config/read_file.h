// Whole small files.
#pragma once

#include <cstdint>
#include <string>

namespace ksa {

// A configuration is small: whatever is larger is something else.
constexpr uintmax_t kLargestFile = 1 << 20;

// Reads a file of at most kLargestFile bytes. Returns "", or what is wrong, with the path.
[[nodiscard]] std::string ReadConfigFile(const std::string& path, std::string& text);

}  // namespace ksa
