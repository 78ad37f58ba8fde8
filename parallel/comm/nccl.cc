#include "parallel/comm/nccl.h"

#include "kernels/core/error.h"

#ifdef KSA_HAVE_NCCL

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "kernels/core/cuda.h"
#include "kernels/core/op.h"
#include "parallel/comm/nccl_handle.h"
#include "parallel/comm/own_messages.h"

namespace ksa {
namespace {

ncclDataType_t SumType(const char* op, DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return ncclFloat64;
    case DType::kF32:
      return ncclFloat32;
    default:
      Fail(ExitCode::kInternal, "{}: sums over ranks are for fp32 and fp64, got {}", op, NameOf(dtype));
  }
}

char* At(const TensorView& x, int64_t byte) {
  return static_cast<char*>(x.data) + byte;
}

size_t Size(int64_t size) {
  return static_cast<size_t>(size);
}

// A stream beside those of calls, and the events between it and them.
class SideStream {
 public:
  SideStream() {
    int least = 0;
    int greatest = 0;
    KSA_CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    KSA_CUDA_CHECK(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest));
    KSA_CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming));
  }

  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;

  // Waits for nothing: what is queued is done first, or never.
  ~SideStream() {
    cudaEventDestroy(event_);
    cudaStreamDestroy(stream_);
  }

  [[nodiscard]] cudaStream_t get() const { return stream_; }

  // What follows here comes after what `stream` has now.
  void Follow(const Stream& stream) {
    KSA_CUDA_CHECK(cudaEventRecord(event_, cuda::Handle(stream)));
    KSA_CUDA_CHECK(cudaStreamWaitEvent(stream_, event_));
    used_ = true;
  }

  // What follows on `stream` comes after all of this.
  void Join(const Stream& stream) {
    if (used_) {
      KSA_CUDA_CHECK(cudaEventRecord(event_, stream_));
      KSA_CUDA_CHECK(cudaStreamWaitEvent(cuda::Handle(stream), event_));
    }
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t event_ = nullptr;
  bool used_ = false;
};

// The stream of a new group: its own, or the one of all groups of the GPU.
std::shared_ptr<SideStream> StreamFor(const Device& device, NcclOrder order) {
  if (order == NcclOrder::kByLaunch) {
    return std::make_shared<SideStream>();
  }
  static std::mutex mutex;
  static std::map<int, std::weak_ptr<SideStream>> of_gpus;
  const std::lock_guard lock(mutex);
  std::weak_ptr<SideStream>& known = of_gpus[device.ordinal];
  std::shared_ptr<SideStream> stream = known.lock();
  if (stream == nullptr) {
    stream = std::make_shared<SideStream>();
    known = stream;
  }
  return stream;
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(std::unique_ptr<Communicator> host, const Device& device, const NcclOptions& options)
      : host_(std::move(host)), device_(device), options_(options) {
    KSA_CHECK(!device.IsCpu(), "NCCL moves tensors of GPUs only");
    SetName(host_->name());
    SetObserver(host_->observer());
    host_->SetObserver(nullptr);  // this group tells of its own calls
    KSA_CUDA_CHECK(cudaSetDevice(device.ordinal));
    side_ = StreamFor(device, options.order.value_or(NcclOrderHere()));
    if (host_->size() > 1) {
      handle_ = std::make_unique<NcclHandle>(*host_, device, options.init_limit_seconds);
    }
  }

  [[nodiscard]] int rank() const override { return host_->rank(); }

  [[nodiscard]] int size() const override { return host_->size(); }

  [[nodiscard]] std::unique_ptr<Communicator> Split(int color, int rank, int size) override {
    auto group = std::make_unique<NcclCommunicator>(host_->Split(color, rank, size), device_, options_);
    group->SetObserver(observer());
    return group;
  }

  void Wait(const Stream& stream) override {
    if (!stream.dry) {
      side_->Join(stream);
    }
  }

 protected:
  void DoAllReduceSum(const char* op, const TensorView& x, const Stream& stream) override {
    const ncclDataType_t type = SumType(op, x.dtype);
    Queue(op, stream, [&](ncclComm_t comm, cudaStream_t queue) {
      Check(ncclAllReduce(x.data, x.data, Size(x.size()), type, ncclSum, comm, queue), "ncclAllReduce", op);
    });
  }

  void DoReduceScatterSum(const char* op, const TensorView& x, const Stream& stream) override {
    const ncclDataType_t type = SumType(op, x.dtype);
    const int64_t part = x.size() / size();
    void* own = At(x, rank() * part * SizeOf(x.dtype));
    Queue(op, stream, [&](ncclComm_t comm, cudaStream_t queue) {
      Check(ncclReduceScatter(x.data, own, Size(part), type, ncclSum, comm, queue), "ncclReduceScatter", op);
    });
  }

  void DoAllGatherV(const char* op,
                    const TensorView& x,
                    std::span<const int64_t> sizes,
                    const Stream& stream) override {
    const int64_t row = x.bytes() / x.rows();
    if (std::all_of(sizes.begin(), sizes.end(), [&](int64_t rows) { return rows == sizes[0]; })) {
      const int64_t bytes = sizes[0] * row;
      Queue(op, stream, [&](ncclComm_t comm, cudaStream_t queue) {
        Check(ncclAllGather(At(x, rank() * bytes), x.data, Size(bytes), ncclInt8, comm, queue), "ncclAllGather", op);
      });
      return;
    }
    std::vector<Message> sends;
    std::vector<Message> receives;
    std::vector<TensorView> parts;
    int64_t first = 0;
    for (const int64_t rows : sizes) {
      parts.push_back(x.Rows(first, rows));
      first += rows;
    }
    for (int peer = 0; peer < size(); ++peer) {
      if (peer != rank()) {
        sends.push_back({peer, parts[Size(rank())]});
        receives.push_back({peer, parts[Size(peer)]});
      }
    }
    DoExchange(op, sends, receives, stream);
  }

  void DoAllToAll(const char* op, const TensorView& from, const TensorView& to, const Stream& stream) override {
    const int64_t part = from.size() / size();
    const TensorView flat_from = from.Reshape({from.size()});
    const TensorView flat_to = to.Reshape({to.size()});
    std::vector<Message> sends;
    std::vector<Message> receives;
    for (int peer = 0; peer < size(); ++peer) {
      sends.push_back({peer, flat_from.Rows(peer * part, part)});
      receives.push_back({peer, flat_to.Rows(peer * part, part)});
    }
    DoExchange(op, sends, receives, stream);
  }

  // NCCL's kernel makes the copies to oneself beside what travels: a stream of their own for them was 11 % slower. In a
  // group of one there is no NCCL.
  void DoExchange(const char* op,
                  std::span<const Message> sends,
                  std::span<const Message> receives,
                  const Stream& stream) override {
    bool followed = false;
    ForOwnMessages(op, rank(), size(), sends, receives, [&](const TensorView& from, const TensorView& to) {
      if (stream.dry || from.size() == 0 || size() > 1) {
        return;
      }
      if (!followed) {
        side_->Follow(stream);
        followed = true;
      }
      KSA_CUDA_CHECK(cudaMemcpyAsync(to.data, from.data, Size(from.bytes()), cudaMemcpyDeviceToDevice, side_->get()));
    });
    const auto travels = [&](const Message& message) { return size() > 1 && message.data.size() > 0; };
    if (std::none_of(sends.begin(), sends.end(), travels) && std::none_of(receives.begin(), receives.end(), travels)) {
      return;
    }
    Queue(op, stream, [&](ncclComm_t comm, cudaStream_t queue) {
      for (const Message& message : sends) {
        if (travels(message)) {
          const size_t bytes = Size(message.data.bytes());
          Check(ncclSend(message.data.data, bytes, ncclInt8, message.peer, comm, queue), "ncclSend", op);
        }
      }
      for (const Message& message : receives) {
        if (travels(message)) {
          const size_t bytes = Size(message.data.bytes());
          Check(ncclRecv(message.data.data, bytes, ncclInt8, message.peer, comm, queue), "ncclRecv", op);
        }
      }
    });
  }

  void DoBroadcast(const char* op, const TensorView& x, int root, const Stream& stream) override {
    Queue(op, stream, [&](ncclComm_t comm, cudaStream_t queue) {
      Check(ncclBroadcast(x.data, x.data, Size(x.bytes()), ncclInt8, root, comm, queue), "ncclBroadcast", op);
    });
  }

  int64_t DoSum(int64_t x) override { return host_->Sum(x); }

  double DoSum(double x) override { return host_->Sum(x); }

  int64_t DoMax(int64_t x) override { return host_->Max(x); }

  void DoBroadcast(std::string& bytes, int root) override { host_->Broadcast(bytes, root); }

  std::vector<std::string> DoGather(const std::string& bytes) override { return host_->Gather(bytes); }

  void DoBarrier() override { host_->Barrier(); }

 private:
  void Check(ncclResult_t result, const char* call, const char* op) { handle_->Check(result, call, op); }

  // calls(comm, queue) behind what `stream` has now.
  template <typename Calls>
  void Queue(const char* op, const Stream& stream, const Calls& calls) {
    KSA_CHECK(stream.device == device_, "{}: the stream is not on the GPU {} of the group", op, device_.ordinal);
    if (stream.dry) {
      return;
    }
    side_->Follow(stream);
    Stream side = stream;
    side.handle = side_->get();
    RunUncounted(op, side, {}, [&] { handle_->Group(op, [&] { calls(handle_->get(), side_->get()); }); });
  }

  std::unique_ptr<Communicator> host_;
  Device device_;
  NcclOptions options_;
  std::shared_ptr<SideStream> side_;
  std::unique_ptr<NcclHandle> handle_;  // none in a group of one; goes first, its work is on the stream
};

}  // namespace

bool NcclIsBuilt() {
  return true;
}

std::unique_ptr<Communicator> MakeNcclCommunicator(std::unique_ptr<Communicator> host,
                                                   const Device& device,
                                                   const NcclOptions& options) {
  return std::make_unique<NcclCommunicator>(std::move(host), device, options);
}

void PollNcclErrors() {
  NcclHandle::PollErrors();
}

}  // namespace ksa

#else

namespace ksa {

bool NcclIsBuilt() {
  return false;
}

std::unique_ptr<Communicator> MakeNcclCommunicator(std::unique_ptr<Communicator> /*host*/,
                                                   const Device& /*device*/,
                                                   const NcclOptions& /*options*/) {
  Fail(ExitCode::kConfig, "several GPUs need NCCL, which this build does not have: configure with KSA_NCCL=ON");
}

NcclOrder NcclOrderHere() {
  return NcclOrder::kOneStream;
}

void PollNcclErrors() {}

}  // namespace ksa

#endif  // KSA_HAVE_NCCL
