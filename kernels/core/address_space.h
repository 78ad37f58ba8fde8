// Address space that a library will take, asked for before it does.
#pragma once

#include <cstdint>
#include <string>

namespace ksa {

// Error(kOutOfMemory) unless `bytes` more can be mapped now. For libraries that hang or end the process where they
// cannot; `who` begins the message: "OpenBLAS, for 4 threads and cores,".
void CheckAddressSpace(int64_t bytes, const std::string& who);

}  // namespace ksa
