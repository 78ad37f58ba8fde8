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

// What decides which kernels a GPU runs. The GPUs of a host, and so the ranks of a process, may differ.
struct Capability {
  int major = 9;  // of the GPU's compute capability
  // The architecture that this program's kernels were compiled for in the version that the GPU runs: 90 for sm_90. It
  // is older than the GPU's where the program has no newer version. What kernels guard with __CUDA_ARCH__ they have by
  // this number, whatever the GPU itself could do.
  int compiled = 90;
};

// Of a GPU. Where it does not exist memory is planned, for the GPU that the fastest kernels are made for.
[[nodiscard]] Capability CapabilityOf(const Device& device);

#ifdef __CUDACC__

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;  // dynamic
  unsigned cluster = 1;     // blocks of a cluster, neighbours along x; more than 1 from sm_90 on
  // The kernel begins with device::WaitForKernelBefore: from sm_90 on its launch overlaps the end of the kernel
  // before it ("programmatic dependent launch" in the CUDA programming guide).
  bool early = false;
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
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (shape.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {shape.cluster, 1, 1};
  }
  if (shape.early && CapabilityOf(stream.device).compiled >= 90) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = Handle(stream);
  config.attrs = attributes;
  config.numAttrs = count;
  Check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(args)...), name, __FILE__, __LINE__);
}

#endif  // __CUDACC__

}  // namespace ksa::cuda

#define KSA_CUDA_CHECK(call) ::ksa::cuda::Check((call), #call, __FILE__, __LINE__)
