// Memory of this process and of its host, in bytes.
#pragma once

#include <cstdint>

namespace ksa {

[[nodiscard]] int64_t ResidentBytes();  // of this process: /proc/self/status VmRSS; 0 when unknown
[[nodiscard]] int64_t HostMemoryBytes();

}  // namespace ksa
