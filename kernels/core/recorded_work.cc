#include "kernels/core/recorded_work.h"

#include <utility>

#include "kernels/core/checks.h"
#include "kernels/core/error.h"
#include "kernels/core/gpu.h"
#include "kernels/core/gpu_cuda.h"
#include "kernels/core/op.h"

namespace ksa {

RecordedWork::~RecordedWork() {
#ifdef KSA_HAVE_CUDA
  if (graph_ != nullptr && !GpusAreAbandoned()) {
    cuda::DestroyGraph(graph_);
  }
#endif
}

void RecordedWork::Record(const Stream& stream, std::function<void()> work) {
  KSA_CHECK(empty() && !stream.dry && !stream.synchronous, "work is recorded once, on a stream that nobody waits for");
  if (stream.device.IsCpu()) {
    work_ = std::move(work);
    return;
  }
  KSA_CUDA_OR_FAIL("RecordedWork", stream, graph_ = cuda::RecordGraph(stream, work));
}

void RecordedWork::Launch(const Stream& stream) const {
  KSA_CHECK(!empty(), "nothing was recorded");
  if (stream.device.IsCpu()) {
    work_();
    return;
  }
  KSA_CUDA_OR_FAIL("RecordedWork", stream, cuda::LaunchGraph(graph_, stream));
}

}  // namespace ksa
