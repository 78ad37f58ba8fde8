// Memory of this process and of its host, in bytes.
#pragma once

#include <cstdint>

namespace ksa {

// Of this process; 0 when unknown.
[[nodiscard]] int64_t ResidentBytes();   // /proc/self/status VmRSS
[[nodiscard]] int64_t AnonymousBytes();  // RssAnon: without the pages of mapped files

[[nodiscard]] int64_t HostMemoryBytes();

}  // namespace ksa
