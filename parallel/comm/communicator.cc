#include "parallel/comm/communicator.h"

#include <exception>
#include <functional>
#include <numeric>
#include <utility>

#include "kernels/core/error.h"
#include "kernels/core/op.h"

namespace ksa {
namespace {

int64_t TotalBytes(std::span<const Message> messages, int self) {
  return std::accumulate(messages.begin(), messages.end(), int64_t{0}, [self](int64_t sum, const Message& message) {
    return sum + (message.peer == self ? 0 : message.data.bytes());
  });
}

// On the CPU a collective is an operation like others, for traces. NCCL's are operations of the stream they run on.
void AsOperation(const char* op, const Stream& stream, const std::function<void()>& call) {
  if (stream.device.IsCpu()) {
    RunUncounted(op, stream, {}, call);
  } else {
    call();
  }
}

}  // namespace

const char* NameOf(CollectiveKind kind) {
  switch (kind) {
    case CollectiveKind::kAllReduce:
      return "all-reduce";
    case CollectiveKind::kReduceScatter:
      return "reduce-scatter";
    case CollectiveKind::kAllGather:
      return "all-gather";
    case CollectiveKind::kAllToAll:
      return "all-to-all";
    case CollectiveKind::kExchange:
      return "exchange";
    case CollectiveKind::kBroadcast:
      return "broadcast";
    case CollectiveKind::kHost:
      return "host values";
  }
  return "unknown";
}

template <typename Call>
decltype(auto) Communicator::Observed(CollectiveKind kind, const char* op, int64_t bytes, const Call& call) {
  struct Scope {
    CommObserver* observer;

    ~Scope() {
      if (observer != nullptr) {
        observer->End();
      }
    }
  };

  if (observer_ != nullptr) {
    observer_->Begin(name_.c_str(), kind, op, bytes);
  }
  const Scope scope{observer_};
  return call();
}

void Communicator::Count(const CommTransfer& transfer) {
  CommCount& count = counts_[static_cast<size_t>(transfer.kind)];
  ++count.calls;
  count.sent += transfer.sent;
  count.received += transfer.received;
  if (observer_ != nullptr && size() > 1) {
    observer_->Moves(*this, transfer);
  }
}

void Communicator::Finish(const Stream& stream, Ordering ordering) {
  if (ordering == Ordering::kInOrder) {
    Wait(stream);
  }
}

void Communicator::AllReduceSum(const char* op, const TensorView& x, const Stream& stream, Ordering ordering) {
  if (size() == 1 || x.size() == 0) {
    return;
  }
  const int64_t bytes = 2 * x.bytes() * (size() - 1) / size();
  Count({.kind = CollectiveKind::kAllReduce, .op = op, .sent = bytes, .received = bytes});
  Observed(CollectiveKind::kAllReduce, op, x.bytes(), [&] {
    AsOperation(op, stream, [&] {
      DoAllReduceSum(op, x, stream);
      Finish(stream, ordering);
    });
  });
}

void Communicator::ReduceScatterSum(const char* op, const TensorView& x, const Stream& stream, Ordering ordering) {
  KSA_CHECK(x.size() % size() == 0, "{}: {} elements do not divide among {} ranks", op, x.size(), size());
  if (size() == 1 || x.size() == 0) {
    return;
  }
  const int64_t bytes = x.bytes() / size() * (size() - 1);
  Count({.kind = CollectiveKind::kReduceScatter, .op = op, .sent = bytes, .received = bytes});
  Observed(CollectiveKind::kReduceScatter, op, x.bytes(), [&] {
    AsOperation(op, stream, [&] {
      DoReduceScatterSum(op, x, stream);
      Finish(stream, ordering);
    });
  });
}

void Communicator::AllGather(const char* op, const TensorView& x, const Stream& stream, Ordering ordering) {
  KSA_CHECK(x.size() % size() == 0, "{}: {} elements do not divide among {} ranks", op, x.size(), size());
  const std::vector<int64_t> sizes(static_cast<size_t>(size()), x.size() / size());
  AllGatherV(op, x.Reshape({x.size()}), sizes, stream, ordering);
}

void Communicator::AllGatherV(
    const char* op, const TensorView& x, std::span<const int64_t> sizes, const Stream& stream, Ordering ordering) {
  const int64_t rows = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  KSA_CHECK(static_cast<int>(sizes.size()) == size() && rows == x.rows(),
            "{}: {} parts with {} rows for {} ranks and a tensor of {}",
            op,
            sizes.size(),
            rows,
            size(),
            x.shape.ToString());
  if (size() == 1 || x.size() == 0) {
    return;
  }
  const int64_t row_bytes = x.bytes() / rows;
  const int64_t own = sizes[static_cast<size_t>(rank())] * row_bytes;
  Count({.kind = CollectiveKind::kAllGather, .op = op, .sent = own * (size() - 1), .received = x.bytes() - own});
  Observed(CollectiveKind::kAllGather, op, x.bytes(), [&] {
    AsOperation(op, stream, [&] {
      DoAllGatherV(op, x, sizes, stream);
      Finish(stream, ordering);
    });
  });
}

void Communicator::AllToAll(
    const char* op, const TensorView& from, const TensorView& to, const Stream& stream, Ordering ordering) {
  KSA_CHECK(from.size() % size() == 0 && from.size() == to.size() && from.dtype == to.dtype,
            "{}: {} elements to {} among {} ranks",
            op,
            from.size(),
            to.size(),
            size());
  if (from.size() == 0) {
    return;
  }
  const int64_t bytes = from.bytes() / size() * (size() - 1);
  Count({.kind = CollectiveKind::kAllToAll, .op = op, .sent = bytes, .received = bytes});
  Observed(CollectiveKind::kAllToAll, op, from.bytes(), [&] {
    AsOperation(op, stream, [&] {
      DoAllToAll(op, from, to, stream);
      Finish(stream, ordering);
    });
  });
}

void Communicator::Exchange(const char* op,
                            std::span<const Message> sends,
                            std::span<const Message> receives,
                            const Stream& stream,
                            Ordering ordering) {
  if (sends.empty() && receives.empty()) {
    return;
  }
  const int64_t sent = TotalBytes(sends, rank());
  const int64_t received = TotalBytes(receives, rank());
  Count({.kind = CollectiveKind::kExchange,
         .op = op,
         .sent = sent,
         .received = received,
         .sends = sends,
         .receives = receives});
  Observed(CollectiveKind::kExchange, op, sent + received, [&] {
    AsOperation(op, stream, [&] {
      DoExchange(op, sends, receives, stream);
      Finish(stream, ordering);
    });
  });
}

void Communicator::Broadcast(const char* op, const TensorView& x, int root, const Stream& stream, Ordering ordering) {
  if (size() == 1 || x.size() == 0) {
    return;
  }
  const bool sends = rank() == root;
  Count(
      {.kind = CollectiveKind::kBroadcast, .op = op, .sent = sends ? x.bytes() : 0, .received = sends ? 0 : x.bytes()});
  Observed(CollectiveKind::kBroadcast, op, x.bytes(), [&] {
    AsOperation(op, stream, [&] {
      DoBroadcast(op, x, root, stream);
      Finish(stream, ordering);
    });
  });
}

int64_t Communicator::Sum(int64_t x) {
  return size() == 1 ? x : Observed(CollectiveKind::kHost, "sum of an integer", 8, [&] { return DoSum(x); });
}

double Communicator::Sum(double x) {
  return size() == 1 ? x : Observed(CollectiveKind::kHost, "sum of a number", 8, [&] { return DoSum(x); });
}

int64_t Communicator::Max(int64_t x) {
  return size() == 1 ? x : Observed(CollectiveKind::kHost, "largest integer", 8, [&] { return DoMax(x); });
}

void Communicator::Broadcast(std::string& bytes, int root) {
  if (size() > 1) {
    Observed(CollectiveKind::kHost, "broadcast of text", 0, [&] { DoBroadcast(bytes, root); });
  }
}

std::vector<std::string> Communicator::Gather(const std::string& bytes) {
  if (size() == 1) {
    return {bytes};
  }
  return Observed(CollectiveKind::kHost, "gather of text", 0, [&] { return DoGather(bytes); });
}

void Communicator::Barrier() {
  if (size() > 1) {
    Observed(CollectiveKind::kHost, "barrier", 0, [&] { DoBarrier(); });
  }
}

PendingCalls::~PendingCalls() {
  try {
    Wait();
  } catch (const std::exception&) {  // the device has failed, of which the exception on its way tells
  }
}

void PendingCalls::Wait() {
  if (Communicator* group = std::exchange(group_, nullptr)) {
    group->Wait(stream_);
  }
}

}  // namespace ksa
