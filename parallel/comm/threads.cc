#include "parallel/comm/threads.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <thread>
#include <utility>

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "kernels/core/threads.h"
#include "parallel/comm/thread_rendezvous.h"

namespace ksa {
namespace {

using Place = ThreadRendezvous::Place;
using Places = std::span<const Place>;

char* At(const TensorView& x, int64_t byte) {
  return static_cast<char*>(x.data) + byte;
}

void CopyBytes(const char* from, char* to, int64_t bytes) {
  if (bytes > 0) {
    std::memcpy(to, from, static_cast<size_t>(bytes));
  }
}

// Elements [begin, end) of every rank's x, added in the order of the ranks, to the same elements of `targets`. A block
// at a time, which stays in the cache and lets a rank's x be a target.
template <typename T>
void SumRange(Places places, Places targets, int64_t begin, int64_t end) {
  constexpr int64_t kBlock = 1024;
  std::array<T, kBlock> sum;
  for (int64_t first = begin; first < end; first += kBlock) {
    const int64_t count = std::min(kBlock, end - first);
    const T* x = static_cast<const T*>(places[0].x.data) + first;
    std::copy(x, x + count, sum.begin());
    for (const Place& place : places.subspan(1)) {
      x = static_cast<const T*>(place.x.data) + first;
      for (int64_t i = 0; i < count; ++i) {
        sum[static_cast<size_t>(i)] += x[i];
      }
    }
    for (const Place& target : targets) {
      std::copy_n(sum.begin(), count, static_cast<T*>(target.x.data) + first);
    }
  }
}

void SumRange(DType dtype, Places places, Places targets, int64_t begin, int64_t end) {
  if (dtype == DType::kF64) {
    SumRange<double>(places, targets, begin, end);
  } else {
    SumRange<float>(places, targets, begin, end);
  }
}

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<ThreadRendezvous> rendezvous, int rank, bool leaves)
      : rendezvous_(std::move(rendezvous)), rank_(rank), leaves_(leaves) {}

  ~ThreadCommunicator() override {
    if (leaves_) {
      rendezvous_->team()->Leave(rendezvous_->member(rank_), "its work was done");
    }
  }

  [[nodiscard]] int rank() const override { return rank_; }

  [[nodiscard]] int size() const override { return rendezvous_->size(); }

  [[nodiscard]] std::unique_ptr<Communicator> Split(int color, int rank, int size) override;

  void Wait(const Stream& /*stream*/) override {}

 protected:
  void DoAllReduceSum(const char* op, const TensorView& x, const Stream& stream) override {
    CheckSum(op, x);
    const int64_t begin = x.size() * rank_ / size();
    const int64_t end = x.size() * (rank_ + 1) / size();
    Meet(stream, {.call = CallOf(CollectiveKind::kAllReduce, op, x), .x = x}, [&](Places places) {
      SumRange(x.dtype, places, places, begin, end);
    });
  }

  void DoReduceScatterSum(const char* op, const TensorView& x, const Stream& stream) override {
    CheckSum(op, x);
    const int64_t part = x.size() / size();
    Meet(stream, {.call = CallOf(CollectiveKind::kReduceScatter, op, x), .x = x}, [&](Places places) {
      SumRange(x.dtype, places, places.subspan(static_cast<size_t>(rank_), 1), rank_ * part, (rank_ + 1) * part);
    });
  }

  void DoAllGatherV(const char* op,
                    const TensorView& x,
                    std::span<const int64_t> sizes,
                    const Stream& stream) override {
    ThreadCall call = CallOf(CollectiveKind::kAllGather, op, x);
    call.sizes = sizes;
    const int64_t row = x.bytes() / x.rows();
    Meet(stream, {.call = std::move(call), .x = x}, [&](Places places) {
      int64_t first = 0;
      for (int peer = 0; peer < size(); ++peer) {
        const int64_t bytes = sizes[static_cast<size_t>(peer)] * row;
        if (peer != rank_) {
          CopyBytes(At(places[static_cast<size_t>(peer)].x, first), At(x, first), bytes);
        }
        first += bytes;
      }
    });
  }

  void DoAllToAll(const char* op, const TensorView& from, const TensorView& to, const Stream& stream) override {
    const int64_t part = from.bytes() / size();
    Meet(stream, {.call = CallOf(CollectiveKind::kAllToAll, op, from), .x = from}, [&](Places places) {
      for (int peer = 0; peer < size(); ++peer) {
        CopyBytes(At(places[static_cast<size_t>(peer)].x, rank_ * part), At(to, peer * part), part);
      }
    });
  }

  void DoExchange(const char* op,
                  std::span<const Message> sends,
                  std::span<const Message> receives,
                  const Stream& stream) override {
    for (const std::span<const Message> messages : {sends, receives}) {
      for (const Message& message : messages) {
        KSA_CHECK(
            0 <= message.peer && message.peer < size(), "{}: a message with rank {} of {}", op, message.peer, size());
      }
    }
    if (!stream.dry) {
      CheckHost(op, stream);
      rendezvous_->Exchange(rank_, name(), op, sends, receives);
    }
  }

  void DoBroadcast(const char* op, const TensorView& x, int root, const Stream& stream) override {
    ThreadCall call = CallOf(CollectiveKind::kBroadcast, op, x);
    call.root = root;
    Meet(stream, {.call = std::move(call), .x = x}, [&](Places places) {
      if (root != rank_) {
        CopyBytes(At(places[static_cast<size_t>(root)].x, 0), At(x, 0), x.bytes());
      }
    });
  }

  int64_t DoSum(int64_t x) override {
    int64_t sum = 0;
    Meet({.call = HostCall("sum of an integer"), .integer = x}, [&](Places places) {
      for (const Place& place : places) {
        sum += place.integer;
      }
    });
    return sum;
  }

  double DoSum(double x) override {
    double sum = 0.0;
    Meet({.call = HostCall("sum of a number"), .number = x}, [&](Places places) {
      for (const Place& place : places) {
        sum += place.number;
      }
    });
    return sum;
  }

  int64_t DoMax(int64_t x) override {
    int64_t most = x;
    Meet({.call = HostCall("largest integer"), .integer = x}, [&](Places places) {
      for (const Place& place : places) {
        most = std::max(most, place.integer);
      }
    });
    return most;
  }

  void DoBroadcast(std::string& bytes, int root) override {
    Place place = {.call = HostCall("broadcast of text")};
    place.call.root = root;
    if (rank_ == root) {
      place.text = bytes;
    }
    std::string text;
    Meet(std::move(place), [&](Places places) { text = places[static_cast<size_t>(root)].text; });
    bytes = std::move(text);
  }

  std::vector<std::string> DoGather(const std::string& bytes) override {
    std::vector<std::string> all;
    Meet({.call = HostCall("gather of text"), .text = bytes}, [&](Places places) {
      for (const Place& place : places) {
        all.push_back(place.text);
      }
    });
    return all;
  }

  void DoBarrier() override {
    Meet({.call = HostCall("barrier")}, [](Places /*places*/) {});
  }

 private:
  void Meet(Place place, const std::function<void(Places)>& work) {
    rendezvous_->Meet(rank_, name(), std::move(place), work);
  }

  void Meet(const Stream& stream, Place place, const std::function<void(Places)>& work) {
    if (!stream.dry) {
      CheckHost(place.call.op, stream);
      Meet(std::move(place), work);
    }
  }

  static void CheckHost(const char* op, const Stream& stream) {
    KSA_CHECK(stream.device.IsCpu(), "{}: ranks that are threads move tensors of the host only", op);
  }

  static void CheckSum(const char* op, const TensorView& x) {
    KSA_CHECK(x.dtype == DType::kF32 || x.dtype == DType::kF64,
              "{}: sums over ranks are for fp32 and fp64, got {}",
              op,
              NameOf(x.dtype));
  }

  static ThreadCall HostCall(const char* op) { return {.op = op}; }

  static ThreadCall CallOf(CollectiveKind kind, const char* op, const TensorView& x) {
    return {.kind = kind, .op = op, .dtype = x.dtype, .elements = x.size()};
  }

  std::shared_ptr<ThreadRendezvous> rendezvous_;
  int rank_;
  bool leaves_;  // its destruction means that the rank is gone
};

// Of each new group, the first rank of the old one makes the rendezvous for the others.
std::unique_ptr<Communicator> ThreadCommunicator::Split(int color, int rank, int size) {
  std::vector<std::array<int, 3>> wishes;
  Meet({.call = HostCall("split"), .split = {color, rank, size}}, [&](Places places) {
    for (const Place& place : places) {
      wishes.push_back(place.split);
    }
  });
  std::vector<int> members(static_cast<size_t>(size), -1);
  int owner = -1;
  for (int peer = 0; peer < this->size(); ++peer) {
    const auto& [peer_color, peer_rank, peer_size] = wishes[static_cast<size_t>(peer)];
    if (peer_color == color) {
      KSA_CHECK(peer_size == size && 0 <= peer_rank && peer_rank < size && members[static_cast<size_t>(peer_rank)] < 0,
                "split of '{}', color {}: rank {} wants to be {} of {}, rank {} wants {} of {}",
                name(),
                color,
                peer,
                peer_rank,
                peer_size,
                rank_,
                rank,
                size);
      members[static_cast<size_t>(peer_rank)] = rendezvous_->member(peer);
      owner = owner < 0 ? peer : owner;
    }
  }
  KSA_CHECK(std::find(members.begin(), members.end(), -1) == members.end(),
            "split of '{}', color {}: fewer than {} ranks",
            name(),
            color,
            size);
  std::shared_ptr<ThreadRendezvous> group;
  if (owner == rank_) {
    group = std::make_shared<ThreadRendezvous>(rendezvous_->team(), members);
  }
  Meet({.call = HostCall("split"), .group = group},
       [&](Places places) { group = places[static_cast<size_t>(owner)].group; });
  auto communicator = std::make_unique<ThreadCommunicator>(std::move(group), rank, false);
  communicator->SetObserver(observer());
  return communicator;
}

}  // namespace

ThreadGroup::ThreadGroup(int size) : team_(std::make_shared<ThreadTeam>(size)) {
  std::vector<int> members(static_cast<size_t>(size));
  std::iota(members.begin(), members.end(), 0);
  world_ = std::make_shared<ThreadRendezvous>(team_, std::move(members));
}

ThreadGroup::~ThreadGroup() = default;

std::unique_ptr<Communicator> ThreadGroup::Join(int rank) {
  return std::make_unique<ThreadCommunicator>(world_, rank, true);
}

void ThreadGroup::Abandon(int rank, const std::string& reason) {
  team_->Leave(rank, reason);
}

std::vector<std::exception_ptr> RunRanksToEnd(int size, const std::function<void(Communicator& world)>& work) {
  ThreadGroup group(size);
  std::vector<std::exception_ptr> errors(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    const auto run = [&, rank] {
      const std::unique_ptr<Communicator> world = group.Join(rank);
      try {
        work(*world);
      } catch (const std::exception& error) {
        errors[static_cast<size_t>(rank)] = std::current_exception();
        group.Abandon(rank, error.what());
      } catch (...) {
        errors[static_cast<size_t>(rank)] = std::current_exception();
        group.Abandon(rank, "an unknown exception");
      }
    };
    try {
      threads.push_back(StartThread("is a rank", run));
    } catch (const Error& error) {
      errors[static_cast<size_t>(rank)] = std::current_exception();
      group.Abandon(rank, error.what());
    }
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  return errors;
}

void RunRanks(int size, const std::function<void(Communicator& world)>& work) {
  const auto lost = [](const std::exception_ptr& error) {
    try {
      std::rethrow_exception(error);
    } catch (const Error& caught) {
      return caught.code() == ExitCode::kPeerLost;
    } catch (...) {
      return false;
    }
  };
  std::exception_ptr first;
  for (const std::exception_ptr& error : RunRanksToEnd(size, work)) {
    if (error && (!first || (lost(first) && !lost(error)))) {
      first = error;
    }
  }
  if (first) {
    std::rethrow_exception(first);
  }
}

}  // namespace ksa
