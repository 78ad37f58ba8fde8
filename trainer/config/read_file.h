// Whole small files.
#pragma once

#include <cstdint>
#include <string>

namespace ksa {

// A configuration is small: whatever is larger is something else.
constexpr int64_t kLargestFile = 1 << 20;

// The text of a file of at most kLargestFile bytes. Error kMissingInput (no such file, or something else than a file),
// kIo when it may not be read, kConfig when it is too large.
[[nodiscard]] std::string ReadConfigFile(const std::string& path);

}  // namespace ksa
