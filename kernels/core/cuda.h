// For .cu files, and the few .cc files that own handles of CUDA libraries: checked calls and checked launches.
#pragma once

#include <cstddef>
#include <utility>

#include <cuda_runtime.h>

#include "kernels/core/device.h"

namespace ksa::cuda {

// Throws DeviceError (kOutOfMemory for cudaErrorMemoryAllocation, else kInternal) naming `what` and the place.
[[noreturn]] void FailCuda(cudaError_t error, const char* what, const char* file, int line);

inline void Check(cudaError_t error, const char* what, const char* file, int line) {
  if (error != cudaSuccess) {
    FailCuda(error, what, file, line);
  }
}

[[nodiscard]] inline cudaStream_t Handle(const Stream& stream) {
  return static_cast<cudaStream_t>(stream.handle);
}

#ifdef __CUDACC__

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;  // dynamic
  unsigned cluster = 1;     // blocks of a cluster, neighbours along x; more than 1 from sm_90 on
};

// Launches `kernel` on a stream, and checks the launch; asks for more than 48 KiB of shared memory where needed. On a
// dry stream, and with an empty grid, nothing happens. `name` is for messages.
template <typename... Parameters, typename... Args>
void Launch(
    const char* name, const Stream& stream, const LaunchShape& shape, void (*kernel)(Parameters...), Args&&... args) {
  if (stream.dry || shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) {
    return;
  }
  if (shape.shared_bytes > 48 * 1024) {
    Check(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes)),
        name,
        __FILE__,
        __LINE__);
  }
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {shape.cluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = Handle(stream);
  config.attrs = &cluster;
  config.numAttrs = shape.cluster > 1 ? 1 : 0;
  Check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(args)...), name, __FILE__, __LINE__);
}

#endif  // __CUDACC__

}  // namespace ksa::cuda

#define KSA_CUDA_CHECK(call) ::ksa::cuda::Check((call), #call, __FILE__, __LINE__)
