#include "kernels/core/side_copies.h"

#include "kernels/core/checks.h"
#include "kernels/core/error.h"
#include "kernels/core/gpu.h"
#include "kernels/core/gpu_cuda.h"
#include "kernels/core/op.h"

namespace ksa {

SideCopies::SideCopies(const Stream& stream) : stream_(stream), side_(stream) {
  if (idle()) {
    return;
  }
  KSA_CUDA_OR_FAIL("SideCopies", stream, side_.handle = cuda::CreateStream(stream.device.ordinal));
#ifdef KSA_HAVE_CUDA
  begin_ = cuda::CreateEvent();
  done_ = cuda::CreateEvent();
#endif
}

SideCopies::~SideCopies() {
#ifdef KSA_HAVE_CUDA
  if (!idle() && !GpusAreAbandoned()) {
    cuda::DestroyEvent(begin_);
    cuda::DestroyEvent(done_);
    cuda::DestroyStream(side_.handle);
  }
#endif
}

void SideCopies::Begin() {
#ifdef KSA_HAVE_CUDA
  if (!idle()) {
    cuda::RecordEvent(begin_, stream_);
    cuda::HoldBack(begin_, side_);
  }
#endif
}

void SideCopies::Copy(const TensorView& from, const TensorView& to) {
  KSA_CHECK(from.dtype == to.dtype && from.size() == to.size(),
            "a copy of {} {} to {} {}",
            from.size(),
            NameOf(from.dtype),
            to.size(),
            NameOf(to.dtype));
  if (from.size() == 0) {
    return;
  }
  if (idle()) {
    CopyToHost(from, to, stream_);
    return;
  }
  KSA_CUDA_OR_FAIL("SideCopies", stream_, cuda::QueueCopy(from.data, to.data, from.bytes(), side_));
}

void SideCopies::End() {
#ifdef KSA_HAVE_CUDA
  if (!idle()) {
    cuda::RecordEvent(done_, side_);
  }
#endif
}

void SideCopies::HoldBack() const {
#ifdef KSA_HAVE_CUDA
  if (!idle()) {
    cuda::HoldBack(done_, stream_);
  }
#endif
}

// A thread begins with the first GPU, which may be another rank's.
void SideCopies::Wait() const {
#ifdef KSA_HAVE_CUDA
  if (!idle()) {
    cuda::UseGpu(stream_.device.ordinal);
    cuda::WaitForEvent(done_);
  }
#endif
}

}  // namespace ksa
