#include "kernels/core/error.h"
#include "parallel/comm/bare.h"

#ifdef KSA_HAVE_NCCL

#include "kernels/core/cuda.h"
#include "parallel/comm/nccl_handle.h"

namespace ksa {
namespace {

void Check(ncclResult_t result) {
  KSA_CHECK(result == ncclSuccess, "NCCL reports: {}", ncclGetErrorString(result));
}

size_t Count(int64_t elements) {
  return static_cast<size_t>(elements);
}

class BareNccl final : public BareCollectives {
 public:
  BareNccl(Communicator& host, const Device& device)
      : rank_(host.rank()), size_(host.size()), handle_(host, device, 120.0) {}

  void AllReduce(const TensorView& x, const Stream& stream) override {
    Check(ncclAllReduce(x.data, x.data, Count(x.size()), ncclFloat32, ncclSum, handle_.get(), cuda::Handle(stream)));
  }

  void ReduceScatter(const TensorView& x, const Stream& stream) override {
    const int64_t part = x.size() / size_;
    Check(ncclReduceScatter(
        x.data, x.As<float>() + rank_ * part, Count(part), ncclFloat32, ncclSum, handle_.get(), cuda::Handle(stream)));
  }

  void AllGather(const TensorView& x, const Stream& stream) override {
    const int64_t part = x.size() / size_;
    Check(ncclAllGather(
        x.As<float>() + rank_ * part, x.data, Count(part), ncclFloat32, handle_.get(), cuda::Handle(stream)));
  }

  void AllToAll(const TensorView& from, const TensorView& to, const Stream& stream) override {
    const int64_t part = from.size() / size_;
    const cudaStream_t queue = cuda::Handle(stream);
    handle_.Group("all-to-all", [&] {
      for (int peer = 0; peer < size_; ++peer) {
        Check(ncclSend(from.As<float>() + peer * part, Count(part), ncclFloat32, peer, handle_.get(), queue));
        Check(ncclRecv(to.As<float>() + peer * part, Count(part), ncclFloat32, peer, handle_.get(), queue));
      }
    });
  }

  void Shift(const TensorView& from, const TensorView& to, const Stream& stream) override {
    const int next = (rank_ + 1) % size_;
    const int before = (rank_ + size_ - 1) % size_;
    handle_.Group("shift", [&] {
      Check(ncclSend(from.data, Count(from.size()), ncclFloat32, next, handle_.get(), cuda::Handle(stream)));
      Check(ncclRecv(to.data, Count(to.size()), ncclFloat32, before, handle_.get(), cuda::Handle(stream)));
    });
  }

 private:
  int rank_;
  int size_;
  NcclHandle handle_;
};

}  // namespace

std::unique_ptr<BareCollectives> MakeBareNccl(Communicator& host, const Device& device) {
  return std::make_unique<BareNccl>(host, device);
}

}  // namespace ksa

#else

namespace ksa {

std::unique_ptr<BareCollectives> MakeBareNccl(Communicator& /*host*/, const Device& /*device*/) {
  Fail(ExitCode::kConfig, "this build does not have NCCL: configure with KSA_NCCL=ON");
}

}  // namespace ksa

#endif  // KSA_HAVE_NCCL
