#include "kernels/core/gpu.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "kernels/core/checks.h"
#include "kernels/core/gpu_cuda.h"
#include "kernels/core/op.h"

namespace ksa {
namespace {

bool Idle(const Stream& stream) {
  return stream.device.IsCpu() || stream.dry;
}

void CheckPair(const char* kernel, const TensorView& from, const TensorView& to) {
  KSA_CHECK(from.dtype == to.dtype && from.size() == to.size(),
            "{}: from {} {} to {} {}",
            kernel,
            NameOf(from.dtype),
            from.shape.ToString(),
            NameOf(to.dtype),
            to.shape.ToString());
}

std::atomic<bool>& Abandoned() {
  static std::atomic<bool> abandoned{false};
  return abandoned;
}

}  // namespace

void AbandonGpus() noexcept {
  Abandoned() = true;
}

bool GpusAreAbandoned() noexcept {
  return Abandoned();
}

int GpuCount() {
#ifdef KSA_HAVE_CUDA
  return cuda::GpuCount();
#else
  return 0;
#endif
}

GpuInfo QueryGpu(int ordinal) {
#ifdef KSA_HAVE_CUDA
  return cuda::QueryGpu(ordinal);
#else
  FailDevice("QueryGpu", {DeviceKind::kCuda, ordinal});
#endif
}

void Synchronize(const Stream& stream) {
  if (!Idle(stream)) {
    KSA_CUDA_OR_FAIL("Synchronize", stream, cuda::Synchronize(stream));
  }
}

GpuStream::GpuStream(int ordinal, int threads) : slabs_(ordinal) {
  stream_.device = {DeviceKind::kCuda, ordinal};
  stream_.threads = threads;
  KSA_CUDA_OR_FAIL("GpuStream", stream_, stream_.handle = cuda::CreateStream(ordinal));
  resources_ = std::make_unique<StreamResources>(slabs_, kWorkspaceBytes);
  stream_.resources = resources_.get();
}

GpuStream::~GpuStream() {
  if (GpusAreAbandoned()) {
    static_cast<void>(resources_.release());
    return;
  }
  resources_.reset();
#ifdef KSA_HAVE_CUDA
  cuda::DestroyStream(stream_.handle);
#endif
}

Event::~Event() {
#ifdef KSA_HAVE_CUDA
  if (handle_ != nullptr) {
    cuda::DestroyEvent(handle_);
  }
#endif
}

void Event::Record(const Stream& stream) {
  if (Idle(stream)) {
    return;
  }
#ifdef KSA_HAVE_CUDA
  if (handle_ == nullptr) {
    handle_ = cuda::CreateEvent();
  }
#endif
  KSA_CUDA_OR_FAIL("Event", stream, cuda::RecordEvent(handle_, stream));
}

void Event::Wait() const {
#ifdef KSA_HAVE_CUDA
  if (handle_ != nullptr) {
    cuda::WaitForEvent(handle_);
  }
#endif
}

double Event::MillisecondsSince(const Event& start) const {
  KSA_CHECK(handle_ != nullptr && start.handle_ != nullptr, "an event that was never recorded has no time");
#ifdef KSA_HAVE_CUDA
  return cuda::MillisecondsBetween(start.handle_, handle_);
#else
  return 0.0;
#endif
}

PinnedMemory::PinnedMemory(int64_t bytes, const Stream& stream) : bytes_(bytes), pinned_(!Idle(stream)) {
  if (pinned_) {
    KSA_CUDA_OR_FAIL("PinnedMemory", stream, data_ = cuda::TakePinned(stream.device.ordinal, bytes));
  } else {
    data_ = std::malloc(static_cast<size_t>(bytes));  // NOLINT(cppcoreguidelines-no-malloc)
  }
  if (data_ == nullptr) {
    Fail(ExitCode::kOutOfMemory,
         "the host gives no {} bytes of {}memory; look at the limits of its memory (`ulimit -a`, control groups)",
         bytes,
         pinned_ ? "pinned " : "");
  }
}

PinnedMemory::~PinnedMemory() {
#ifdef KSA_HAVE_CUDA
  if (pinned_) {
    if (!GpusAreAbandoned()) {
      cuda::GivePinned(data_);
    }
    return;
  }
#endif
  std::free(data_);  // NOLINT(cppcoreguidelines-no-malloc)
}

void CopyFromHost(const TensorView& from, const TensorView& to, const Stream& stream) {
  CheckPair("CopyFromHost", from, to);
  if (from.size() == 0 || stream.dry) {
    return;
  }
  if (stream.device.IsCpu()) {
    std::memcpy(to.data, from.data, static_cast<size_t>(from.bytes()));
    return;
  }
  KSA_CUDA_OR_FAIL("CopyFromHost", stream, cuda::QueueCopy(from.data, to.data, from.bytes(), stream));
}

void CopyToHost(const TensorView& from, const TensorView& to, const Stream& stream) {
  CheckPair("CopyToHost", from, to);
  if (from.size() == 0) {
    return;
  }
  if (stream.dry) {
    std::memset(to.data, 0, static_cast<size_t>(to.bytes()));
    return;
  }
  if (stream.device.IsCpu()) {
    std::memcpy(to.data, from.data, static_cast<size_t>(from.bytes()));
    return;
  }
  KSA_CUDA_OR_FAIL("CopyToHost", stream, cuda::QueueCopy(from.data, to.data, from.bytes(), stream));
  Synchronize(stream);
}

HostCopy::HostCopy(const TensorView& x, const Stream& stream) : view_(x) {
  if (x.device.IsCpu() && !stream.dry) {
    return;
  }
  bytes_.resize(static_cast<size_t>(x.bytes()));
  view_.data = bytes_.data();
  view_.device = {};
  CopyToHost(x, view_, stream);
}

void* GpuSlabs::Take([[maybe_unused]] int64_t bytes) {
#ifdef KSA_HAVE_CUDA
  return cuda::TakeDevice(device_.ordinal, bytes);
#else
  FailDevice("GpuSlabs", device_);
#endif
}

void GpuSlabs::Give([[maybe_unused]] void* slab, int64_t /*bytes*/) noexcept {
#ifdef KSA_HAVE_CUDA
  if (!GpusAreAbandoned()) {
    cuda::GiveDevice(slab);
  }
#endif
}

}  // namespace ksa
