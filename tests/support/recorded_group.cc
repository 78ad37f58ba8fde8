#include "tests/support/recorded_group.h"

#include <iterator>
#include <map>
#include <set>
#include <utility>

#include <fmt/core.h>
#include <fmt/ranges.h>

namespace ksa::testing {
namespace {

class RecordedGroup final : public Communicator {
 public:
  RecordedGroup(std::unique_ptr<Communicator> group,
                std::vector<QueuedCall>& calls,
                int world_rank,
                std::function<void()> before)
      : group_(std::move(group)), calls_(calls), before_(std::move(before)) {
    SetName(group_->name());
    for (const std::string& member : group_->Gather(std::to_string(world_rank))) {
      ranks_.push_back(std::stoi(member));
    }
  }

  [[nodiscard]] int rank() const override { return group_->rank(); }

  [[nodiscard]] int size() const override { return group_->size(); }

  [[nodiscard]] std::unique_ptr<Communicator> Split(int color, int rank, int size) override {
    return group_->Split(color, rank, size);
  }

  void Wait(const Stream& stream) override { group_->Wait(stream); }

 protected:
  void DoAllReduceSum(const char* op, const TensorView& x, const Stream& stream) override {
    Record(op, CollectiveKind::kAllReduce);
    group_->AllReduceSum(op, x, stream, Ordering::kUntilWait);
  }

  void DoReduceScatterSum(const char* op, const TensorView& x, const Stream& stream) override {
    Record(op, CollectiveKind::kReduceScatter);
    group_->ReduceScatterSum(op, x, stream, Ordering::kUntilWait);
  }

  void DoAllGatherV(const char* op,
                    const TensorView& x,
                    std::span<const int64_t> sizes,
                    const Stream& stream) override {
    Record(op, CollectiveKind::kAllGather);
    group_->AllGatherV(op, x, sizes, stream, Ordering::kUntilWait);
  }

  void DoAllToAll(const char* op, const TensorView& from, const TensorView& to, const Stream& stream) override {
    Record(op, CollectiveKind::kAllToAll);
    group_->AllToAll(op, from, to, stream, Ordering::kUntilWait);
  }

  void DoExchange(const char* op,
                  std::span<const Message> sends,
                  std::span<const Message> receives,
                  const Stream& stream) override {
    Record(op, CollectiveKind::kExchange, sends, receives);
    group_->Exchange(op, sends, receives, stream, Ordering::kUntilWait);
  }

  void DoBroadcast(const char* op, const TensorView& x, int root, const Stream& stream) override {
    Record(op, CollectiveKind::kBroadcast);
    group_->Broadcast(op, x, root, stream, Ordering::kUntilWait);
  }

  int64_t DoSum(int64_t x) override { return group_->Sum(x); }

  double DoSum(double x) override { return group_->Sum(x); }

  int64_t DoMax(int64_t x) override { return group_->Max(x); }

  void DoBroadcast(std::string& bytes, int root) override { group_->Broadcast(bytes, root); }

  std::vector<std::string> DoGather(const std::string& bytes) override { return group_->Gather(bytes); }

  void DoBarrier() override { group_->Barrier(); }

 private:
  void Record(const char* op,
              CollectiveKind kind,
              std::span<const Message> sends = {},
              std::span<const Message> receives = {}) {
    if (before_) {
      before_();
    }
    calls_.push_back({name(), ranks_, op, kind, Peers(sends), Peers(receives)});
  }

  [[nodiscard]] std::vector<int> Peers(std::span<const Message> messages) const {
    std::vector<int> peers;
    for (const Message& message : messages) {
      if (message.peer != rank() && message.data.size() > 0) {
        peers.push_back(ranks_[static_cast<size_t>(message.peer)]);
      }
    }
    return peers;
  }

  std::unique_ptr<Communicator> group_;
  std::vector<QueuedCall>& calls_;
  std::vector<int> ranks_;
  std::function<void()> before_;
};

// Ranks that run their calls one after the other.
class Replay {
 public:
  explicit Replay(const std::vector<std::vector<QueuedCall>>& ranks) : ranks_(ranks), next_(ranks.size(), 0) {}

  std::string Run() {
    while (Step()) {
    }
    std::string stuck;
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      if (const QueuedCall* call = Head(rank)) {
        stuck += fmt::format("rank {} waits in its call {}, {}\n", rank, next_[rank], ToString(*call));
      }
    }
    return stuck;
  }

 private:
  using Channel = std::pair<std::pair<std::string, std::vector<int>>, std::pair<int, int>>;  // group, from and to

  [[nodiscard]] const QueuedCall* Head(size_t rank) const {
    return next_[rank] < ranks_[rank].size() ? &ranks_[rank][next_[rank]] : nullptr;
  }

  // Runs what can run; whether anything did.
  bool Step() {
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      const QueuedCall* call = Head(rank);
      if (call == nullptr) {
        continue;
      }
      if (call->kind == CollectiveKind::kExchange ? RunExchange() : RunCollective(*call)) {
        return true;
      }
    }
    return false;
  }

  // All members are at the same call.
  bool RunCollective(const QueuedCall& call) {
    for (const int member : call.ranks) {
      const QueuedCall* head = Head(static_cast<size_t>(member));
      if (head == nullptr || !(*head == call)) {
        return false;
      }
    }
    for (const int member : call.ranks) {
      ++next_[static_cast<size_t>(member)];
    }
    return true;
  }

  // Exchanges end together that have all their messages among themselves: of those that ranks are at, the ones whose
  // messages do not fit are left out until the others fit.
  bool RunExchange() {
    std::set<size_t> at;
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      if (const QueuedCall* head = Head(rank); head != nullptr && head->kind == CollectiveKind::kExchange) {
        at.insert(rank);
      }
    }
    for (bool fits = false; !fits && !at.empty();) {
      const std::map<Channel, int> open = OpenMessages(at);
      fits = open.empty();
      for (const auto& [channel, count] : open) {
        at.erase(static_cast<size_t>(count > 0 ? channel.second.first : channel.second.second));
      }
    }
    for (const size_t rank : at) {
      ++next_[rank];
    }
    return !at.empty();
  }

  // Messages that only one side names: how many more are sent than received.
  [[nodiscard]] std::map<Channel, int> OpenMessages(const std::set<size_t>& at) const {
    std::map<Channel, int> open;
    for (const size_t rank : at) {
      const QueuedCall& call = *Head(rank);
      const auto self = static_cast<int>(rank);
      for (const int peer : call.sends) {
        ++open[{{call.group, call.ranks}, {self, peer}}];
      }
      for (const int peer : call.receives) {
        --open[{{call.group, call.ranks}, {peer, self}}];
      }
    }
    for (auto it = open.begin(); it != open.end();) {
      it = it->second == 0 ? open.erase(it) : std::next(it);
    }
    return open;
  }

  const std::vector<std::vector<QueuedCall>>& ranks_;
  std::vector<size_t> next_;
};

}  // namespace

std::string ToString(const QueuedCall& call) {
  return fmt::format("{} of {} over ranks {}", call.op, call.group, fmt::join(call.ranks, ", "));
}

ProcessMesh::MakeGroup RecordInto(std::vector<QueuedCall>& calls, int world_rank, std::function<void()> before) {
  return [&calls, world_rank, before = std::move(before)](std::unique_ptr<Communicator> group) {
    return group->size() == 1 ? std::move(group)
                              : std::make_unique<RecordedGroup>(std::move(group), calls, world_rank, before);
  };
}

std::string WhyNotOneOrder(const std::vector<std::vector<QueuedCall>>& ranks) {
  return Replay(ranks).Run();
}

}  // namespace ksa::testing
