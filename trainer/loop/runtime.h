// Runtime: what a command needs to compute, made once: ranks, mesh, cores, memory.
#pragma once

#include <memory>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "model/autograd/context.h"
#include "parallel/comm/communicator.h"
#include "parallel/mesh/process_mesh.h"

namespace ksa {

class Runtime {
 public:
  // `threads` 0: as many as AvailableCores says. `world` and what it needs must outlive the runtime.
  Runtime(Communicator& world, int local_size, int threads);
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  [[nodiscard]] Communicator& world() const { return *mesh_.world; }

  [[nodiscard]] const ProcessMesh& mesh() const { return mesh_; }

  [[nodiscard]] const Stream& stream() const { return stream_; }

  [[nodiscard]] PoolAllocator& allocator() { return allocator_; }

  // A context without a tape.
  [[nodiscard]] ExecContext Context();

 private:
  ProcessMesh mesh_;
  Stream stream_;
  PoolAllocator allocator_;
};

}  // namespace ksa
