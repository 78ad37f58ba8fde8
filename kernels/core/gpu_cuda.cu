#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>

#include "kernels/core/cuda.h"
#include "kernels/core/gpu_cuda.h"

namespace ksa::cuda {
namespace {

// Compiled for the same GPUs as all others.
__global__ void ProbeKernel() {}

constexpr int kPackedMajor = 1000;

// None where there is no such GPU. The thread's current GPU stays what it was.
std::optional<Capability> QueryCapability(int ordinal) {
  Capability capability;
  if (cudaDeviceGetAttribute(&capability.major, cudaDevAttrComputeCapabilityMajor, ordinal) != cudaSuccess) {
    (void)cudaGetLastError();
    return std::nullopt;
  }
  int current = 0;
  KSA_CUDA_CHECK(cudaGetDevice(&current));
  KSA_CUDA_CHECK(cudaSetDevice(ordinal));
  cudaFuncAttributes probe{};
  const cudaError_t result = cudaFuncGetAttributes(&probe, ProbeKernel);
  KSA_CUDA_CHECK(cudaSetDevice(current));
  KSA_CUDA_CHECK(result);
  capability.compiled = probe.ptxVersion;
  return capability;
}

}  // namespace

Capability CapabilityOf(const Device& device) {
  // Asked at every launch, and the same as long as the process lives: both in one number; 0: not asked yet.
  constexpr size_t kMostGpus = 64;
  static std::array<std::atomic<int>, kMostGpus> known{};
  const auto ordinal = static_cast<size_t>(device.ordinal);
  const int packed = ordinal < kMostGpus ? known[ordinal].load(std::memory_order_relaxed) : 0;
  if (packed > 0) {
    return {packed / kPackedMajor, packed % kPackedMajor};
  }
  const std::optional<Capability> found = QueryCapability(device.ordinal);
  if (found.has_value() && ordinal < kMostGpus) {
    known[ordinal].store(found->major * kPackedMajor + found->compiled, std::memory_order_relaxed);
  }
  return found.value_or(Capability{});
}

void FailCuda(cudaError_t error, const char* what, const char* file, int line) {
  const ExitCode code = error == cudaErrorMemoryAllocation ? ExitCode::kOutOfMemory : ExitCode::kInternal;
  throw DeviceError(
      code,
      fmt::format(
          "CUDA: {} ({}) from {} at {}:{}", cudaGetErrorString(error), cudaGetErrorName(error), what, file, line));
}

int GpuCount() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    (void)cudaGetLastError();  // no driver, or no device: not an error of later calls
    return 0;
  }
  return count;
}

GpuInfo QueryGpu(int ordinal) {
  cudaDeviceProp properties{};
  KSA_CUDA_CHECK(cudaGetDeviceProperties(&properties, ordinal));
  KSA_CUDA_CHECK(cudaSetDevice(ordinal));
  size_t free = 0;
  size_t total = 0;
  KSA_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  return {.name = properties.name,
          .total_bytes = static_cast<int64_t>(total),
          .free_bytes = static_cast<int64_t>(free),
          .multiprocessors = properties.multiProcessorCount,
          .major = properties.major,
          .minor = properties.minor};
}

void Synchronize(const Stream& stream) {
  KSA_CUDA_CHECK(cudaStreamSynchronize(Handle(stream)));
}

void* CreateStream(int ordinal) {
  cudaStream_t stream = nullptr;
  KSA_CUDA_CHECK(cudaSetDevice(ordinal));
  KSA_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

void DestroyStream(void* handle) noexcept {
  (void)cudaStreamDestroy(static_cast<cudaStream_t>(handle));
}

void* CreateEvent() {
  cudaEvent_t event = nullptr;
  KSA_CUDA_CHECK(cudaEventCreate(&event));
  return event;
}

void DestroyEvent(void* handle) noexcept {
  (void)cudaEventDestroy(static_cast<cudaEvent_t>(handle));
}

void RecordEvent(void* event, const Stream& stream) {
  KSA_CUDA_CHECK(cudaEventRecord(static_cast<cudaEvent_t>(event), Handle(stream)));
}

void WaitForEvent(void* event) {
  KSA_CUDA_CHECK(cudaEventSynchronize(static_cast<cudaEvent_t>(event)));
}

void UseGpu(int ordinal) {
  KSA_CUDA_CHECK(cudaSetDevice(ordinal));
}

void HoldBack(void* event, const Stream& stream) {
  KSA_CUDA_CHECK(cudaStreamWaitEvent(Handle(stream), static_cast<cudaEvent_t>(event), 0));
}

double MillisecondsBetween(void* start, void* end) {
  float milliseconds = 0.0F;
  KSA_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(start), static_cast<cudaEvent_t>(end)));
  return milliseconds;
}

void* TakePinned(int ordinal, int64_t bytes) {
  void* data = nullptr;
  KSA_CUDA_CHECK(cudaSetDevice(ordinal));
  const cudaError_t error = cudaMallocHost(&data, static_cast<size_t>(bytes));
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    return nullptr;
  }
  KSA_CUDA_CHECK(error);
  return data;
}

void GivePinned(void* data) noexcept {
  (void)cudaFreeHost(data);
}

void* TakeDevice(int ordinal, int64_t bytes) {
  void* data = nullptr;
  KSA_CUDA_CHECK(cudaSetDevice(ordinal));
  const cudaError_t error = cudaMalloc(&data, static_cast<size_t>(bytes));
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    return nullptr;
  }
  KSA_CUDA_CHECK(error);
  return data;
}

void GiveDevice(void* data) noexcept {
  (void)cudaFree(data);
}

void QueueCopy(const void* from, void* to, int64_t bytes, const Stream& stream) {
  KSA_CUDA_CHECK(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, Handle(stream)));
}

namespace {

struct DestroyRecorded {
  void operator()(cudaGraph_t graph) const { (void)cudaGraphDestroy(graph); }
};

}  // namespace

// Relaxed: operations may take memory from the driver and load kernels while they are recorded.
void* RecordGraph(const Stream& stream, const std::function<void()>& work) {
  KSA_CUDA_CHECK(cudaSetDevice(stream.device.ordinal));
  KSA_CUDA_CHECK(cudaStreamBeginCapture(Handle(stream), cudaStreamCaptureModeRelaxed));
  cudaGraph_t recorded = nullptr;
  try {
    work();
  } catch (...) {
    (void)cudaStreamEndCapture(Handle(stream), &recorded);
    if (recorded != nullptr) {
      (void)cudaGraphDestroy(recorded);
    }
    (void)cudaGetLastError();
    throw;
  }
  KSA_CUDA_CHECK(cudaStreamEndCapture(Handle(stream), &recorded));
  const std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, DestroyRecorded> owner(recorded);
  cudaGraphExec_t graph = nullptr;
  KSA_CUDA_CHECK(cudaGraphInstantiate(&graph, recorded, 0));
  return graph;
}

void LaunchGraph(void* graph, const Stream& stream) {
  KSA_CUDA_CHECK(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), Handle(stream)));
}

void DestroyGraph(void* graph) noexcept {
  (void)cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph));
}

}  // namespace ksa::cuda
