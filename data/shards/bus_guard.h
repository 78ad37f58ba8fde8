// Which file lies where in memory, for the handler of SIGBUS. Part of MappedFile.
#pragma once

#include <cstddef>
#include <string>

namespace ksa {

// Notes that [data, data + bytes) maps `path`, and installs the handler. Returns what UnguardMapping takes.
[[nodiscard]] size_t GuardMapping(const void* data, size_t bytes, const std::string& path);

void UnguardMapping(size_t guard);

// A log to which the handler adds its message, as an error, beside standard error; at most 1023 bytes long. Once.
void SetBusErrorLog(const std::string& path);

}  // namespace ksa
