#include "trainer/loop/runtime.h"

#include "trainer/loop/cores.h"

namespace ksa {

Runtime::Runtime(Communicator& world, int local_size, int threads) : mesh_(ProcessMesh::DataParallel(world)) {
  stream_.threads = threads > 0 ? threads : AvailableCores(local_size);
}

ExecContext Runtime::Context() {
  return {.stream = stream_, .allocator = &allocator_, .mesh = &mesh_};
}

}  // namespace ksa
