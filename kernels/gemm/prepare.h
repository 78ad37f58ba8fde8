// What the host's threads and its BLAS library take from the system, taken at the start.
#pragma once

#include "kernels/core/device.h"

namespace ksa {

// Starts the threads of parallel loops and, for a stream of the CPU, opens the BLAS library and makes a product, so
// that its buffers are there. Later both would end the process, or try again without end, where the system refuses;
// here it is Error(kOutOfMemory). For the thread that will use the stream.
void PrepareHost(const Stream& stream);

}  // namespace ksa
