// Runtime: what a command needs to compute, made once: ranks, mesh, device, cores, memory.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "kernels/core/allocator.h"
#include "kernels/core/arena.h"
#include "kernels/core/device.h"
#include "kernels/core/gpu.h"
#include "model/autograd/context.h"
#include "parallel/comm/communicator.h"
#include "parallel/mesh/process_mesh.h"
#include "trainer/run/watchdog.h"

namespace ksa {

// Bytes.
struct MemoryStatus {
  int64_t used = 0;   // GPU: the most that tensors and the workspace of products took so far; CPU: resident
  int64_t total = 0;  // of the device or host
};

struct RuntimeOptions {
  DeviceKind device = DeviceKind::kCpu;
  std::optional<MeshShape> mesh;  // none: all ranks are data ranks
  bool sequence_parallel = false;
  int ordinal = 0;     // of the GPU
  int local_size = 1;  // ranks on this host
  int threads = 0;     // 0: as many as AvailableCores says
  bool deterministic = true;
  // Plan only. Addresses are imaginary and nothing is computed; needs no GPU. On the CPU scratch that a kernel takes
  // itself is not seen.
  bool dry = false;
  int64_t device_bytes = 0;  // GPU: memory to take at once (MemoryPlan::total_bytes); 0: as needed
  // Gets every group of the mesh that moves tensors, and returns what stands for it, to watch it; empty: the group.
  ProcessMesh::MakeGroup watch_group;
};

class Runtime {
 public:
  // `world` and what it needs must outlive the runtime; all its ranks make theirs together. On GPUs the groups of the
  // mesh move tensors by NCCL, and `world` host values alone. The environment variable KSA_DEBUG_SYNC=1 makes every
  // operation wait for the device, so that an error is reported by the operation that caused it.
  Runtime(Communicator& world, const RuntimeOptions& options);
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  [[nodiscard]] Communicator& world() const { return mesh_->world(); }

  [[nodiscard]] const ProcessMesh& mesh() const { return *mesh_; }

  [[nodiscard]] const Stream& stream() const { return stream_; }

  [[nodiscard]] Allocator& allocator() { return *allocator_; }

  // The arena of a GPU or of a plan; null on the CPU.
  [[nodiscard]] const ArenaAllocator* arena() const { return arena_; }

  // The GPU's name and memory; none on the CPU and in a plan.
  [[nodiscard]] const std::optional<GpuInfo>& gpu() const { return gpu_; }

  [[nodiscard]] MemoryStatus Memory() const;

  // A context without a tape.
  [[nodiscard]] ExecContext Context();

  // `watchdog` (null: none), which outlives the runtime, is told of the phases that follow.
  void SetWatchdog(Watchdog* watchdog);

  void Enter(Phase phase) {
    if (watchdog_ != nullptr) {
      watchdog_->Enter(phase);
    }
  }

  void BeginUpdate(int64_t update) {
    if (watchdog_ != nullptr) {
      watchdog_->BeginUpdate(update);
    }
  }

  [[nodiscard]] Watchdog* watchdog() const { return watchdog_; }

  // Tells `tracer` (null: nobody) of all operations of contexts made from now on.
  void SetTracer(Tracer* tracer) { stream_.tracer = tracer; }

 private:
  void OpenGpu(const RuntimeOptions& options);
  void OpenImaginary(const RuntimeOptions& options);
  void OpenArena(int64_t first_slab);

  Stream stream_;
  std::optional<GpuInfo> gpu_;
  std::unique_ptr<GpuStream> gpu_stream_;
  std::unique_ptr<SlabSource> slabs_;
  std::unique_ptr<Allocator> allocator_;
  const ArenaAllocator* arena_ = nullptr;
  Watchdog* watchdog_ = nullptr;
  std::unique_ptr<ProcessMesh> mesh_;  // last: its groups use the device
};

}  // namespace ksa
