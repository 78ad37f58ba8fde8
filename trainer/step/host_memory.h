// Memory of this process and of its host, in bytes.
#pragma once

#include <cstdint>
#include <string>

namespace ksa {

// Of this process; 0 when unknown.
[[nodiscard]] int64_t ResidentBytes();      // /proc/self/status VmRSS
[[nodiscard]] int64_t PeakResidentBytes();  // VmHWM: the most since the start, or since ResetPeakResident
[[nodiscard]] int64_t AnonymousBytes();     // RssAnon: without the pages of mapped files

// Whether the system could; else PeakResidentBytes stays the most since the start.
[[nodiscard]] bool ResetPeakResident();

[[nodiscard]] int64_t HostMemoryBytes();

// What all processes of this host can still take together: as /proc/meminfo says, and not more than this process's
// control groups leave. Pages of files count as free. Files are read under `root`.
[[nodiscard]] int64_t FreeHostBytes(const std::string& root = "");

}  // namespace ksa
