// Results that a command was asked to write.
#pragma once

#include <string>

namespace ksa {

// Writes to a path of the user's, as it stands: it may be a device or a pipe as well. Error kCannotCreate or kIo.
void WriteResult(const std::string& path, const std::string& contents);

}  // namespace ksa
