#include "kernels/core/stream_resources.h"

#include "kernels/core/error.h"

namespace ksa {

StreamResources::StreamResources(SlabSource& source, int64_t workspace_bytes)
    : source_(source), workspace_(source.Take(workspace_bytes)), workspace_bytes_(workspace_bytes) {
  if (workspace_ == nullptr) {
    Fail(ExitCode::kOutOfMemory, "no {} MiB of device memory for the libraries' workspace", workspace_bytes >> 20);
  }
}

StreamResources::~StreamResources() {
  items_.clear();
  source_.Give(workspace_, workspace_bytes_);
}

}  // namespace ksa
