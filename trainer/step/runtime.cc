#include "trainer/step/runtime.h"

#include <cstdlib>
#include <string_view>
#include <utility>

#include "kernels/core/host_allocator.h"
#include "kernels/gemm/prepare.h"
#include "parallel/comm/nccl.h"
#include "trainer/step/cores.h"
#include "trainer/step/host_memory.h"

namespace ksa {
namespace {

// More than any device has: a plan's arena grows into it.
constexpr int64_t kImaginaryBytes = int64_t{1} << 50;

bool DebugSync() {
  const char* value = std::getenv("KSA_DEBUG_SYNC");
  return value != nullptr && std::string_view(value) != "0";
}

}  // namespace

Runtime::Runtime(Communicator& world, const RuntimeOptions& options) {
  stream_.threads = options.threads > 0 ? options.threads : AvailableCores(options.local_size);
  if (options.dry) {
    OpenImaginary(options);
  } else if (options.device == DeviceKind::kCpu) {
    allocator_ = std::make_unique<HostAllocator>();
  } else {
    OpenGpu(options);
  }
  stream_.synchronous = DebugSync() && !stream_.device.IsCpu();
  stream_.deterministic = options.deterministic;
  if (!stream_.dry) {
    PrepareHost(stream_);
  }
  const bool by_nccl = gpu_.has_value() && world.size() > 1;
  const auto make =
      [device = stream_.device, by_nccl, watch = options.watch_group](std::unique_ptr<Communicator> host) {
        const bool moves = by_nccl && host->size() > 1;
        std::unique_ptr<Communicator> group = moves ? MakeNcclCommunicator(std::move(host), device) : std::move(host);
        return watch ? watch(std::move(group)) : std::move(group);
      };
  mesh_ = std::make_unique<ProcessMesh>(
      world, options.mesh.value_or(MeshShape{.data = world.size()}), options.sequence_parallel, make);
}

void Runtime::OpenGpu(const RuntimeOptions& options) {
  gpu_ = QueryGpu(options.ordinal);
  gpu_stream_ = std::make_unique<GpuStream>(options.ordinal, stream_.threads);
  stream_ = gpu_stream_->stream();
  slabs_ = std::make_unique<GpuSlabs>(options.ordinal);
  OpenArena(options.device_bytes);
}

void Runtime::OpenImaginary(const RuntimeOptions& options) {
  stream_.device = options.device == DeviceKind::kCpu ? Device{} : Device{DeviceKind::kCuda, options.ordinal};
  stream_.dry = true;
  slabs_ = std::make_unique<ImaginarySlabs>(stream_.device);
  OpenArena(kImaginaryBytes);
}

void Runtime::OpenArena(int64_t first_slab) {
  auto arena = std::make_unique<ArenaAllocator>(*slabs_, first_slab);
  arena_ = arena.get();
  allocator_ = std::move(arena);
}

MemoryStatus Runtime::Memory() const {
  if (!gpu_.has_value()) {
    return {ResidentBytes(), HostMemoryBytes()};
  }
  return {allocator_->use().peak + GpuStream::kWorkspaceBytes, gpu_->total_bytes};
}

void Runtime::SetWatchdog(Watchdog* watchdog) {
  watchdog_ = watchdog;
  stream_.operations = watchdog == nullptr ? nullptr : watchdog->operations();
  if (watchdog_ != nullptr) {
    watchdog_->SetDevice(gpu_.has_value());
  }
}

ExecContext Runtime::Context() {
  return {.stream = stream_, .allocator = allocator_.get(), .mesh = mesh_.get()};
}

}  // namespace ksa
