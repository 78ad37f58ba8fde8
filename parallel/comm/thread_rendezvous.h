// Where ranks that are threads of one process wait for each other, and how it is noticed that they wait in vain.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace ksa {

// What one rank asks of its group. All ranks of a group must ask the same.
struct ThreadCall {
  CollectiveKind kind = CollectiveKind::kHost;
  const char* op = "";
  DType dtype = DType::kF32;
  int64_t elements = 0;
  std::span<const int64_t> sizes = {};  // of parts; valid while the rank waits
  int root = -1;
  int peer = -1;            // of an exchange: the one rank that matters; else all do
  std::string detail = {};  // of an exchange: what the rank waits for

  [[nodiscard]] bool Matches(const ThreadCall& other) const;
  [[nodiscard]] std::string ToString() const;  // "all-reduce of 12 fp32 for 'loss'"
};

class ThreadRendezvous;

// All ranks of the process; groups split off share it. One mutex guards everything but the contents of tensors.
class ThreadTeam {
 public:
  using Lock = std::unique_lock<std::mutex>;

  explicit ThreadTeam(int size) : ranks_(static_cast<size_t>(size)) {}

  [[nodiscard]] Lock Acquire() { return Lock(mutex_); }

  // Blocks `rank`, which makes `call` in `rendezvous`, until `ready`. Throws Error(kPeerLost) when a rank it waits for
  // has left, Error(kInternal) when ranks of the rendezvous made different calls or no rank of the team can go on.
  void Block(
      Lock& lock, int rank, ThreadRendezvous& rendezvous, const ThreadCall& call, const std::function<bool()>& ready);
  // The same where `ready` is sure to come: nothing but that ends the wait.
  void BlockSurely(Lock& lock, int rank, const std::function<bool()>& ready);

  void Wake(int rank) { ranks_[static_cast<size_t>(rank)].wake.notify_one(); }

  // The rank is gone. The first reason stays.
  void Leave(int rank, const std::string& reason);

  // Why `rank` is gone, if it is. The lock is held.
  [[nodiscard]] const std::optional<std::string>& gone(int rank) const {
    return ranks_[static_cast<size_t>(rank)].gone;
  }

  [[nodiscard]] const std::string& failure() const { return failure_; }

 private:
  struct Waiting {
    ThreadRendezvous& rendezvous;
    const ThreadCall& call;
    const std::function<bool()>& ready;
  };

  struct Rank {
    std::condition_variable wake;
    const Waiting* waiting = nullptr;
    std::optional<std::string> gone;
  };

  void FindDeadlock();
  void WakeAll();

  std::mutex mutex_;
  std::deque<Rank> ranks_;  // which cannot be moved
  std::string failure_;     // all wait for each other
};

// One group.
class ThreadRendezvous {
 public:
  // What a rank shows the others while they are together.
  struct Place {
    ThreadCall call;
    TensorView x;
    std::string text;
    double number = 0.0;
    int64_t integer = 0;
    std::array<int, 3> split = {};  // color, rank, size
    std::shared_ptr<ThreadRendezvous> group;
  };

  struct PendingSend {
    enum class State : int { kPosted, kTaken, kDone };
    const char* op;
    TensorView data;
    State state = State::kPosted;
  };

  // `members`: the team's ranks, in the group's order.
  ThreadRendezvous(std::shared_ptr<ThreadTeam> team, std::vector<int> members);

  [[nodiscard]] int size() const { return static_cast<int>(members_.size()); }

  [[nodiscard]] const std::shared_ptr<ThreadTeam>& team() const { return team_; }

  [[nodiscard]] int member(int rank) const { return members_[static_cast<size_t>(rank)]; }

  // All ranks meet with what they show, run `work` beside each other, and part once all are done with it. `work`, which
  // does not throw, may read and write what the others' places refer to.
  void Meet(int rank,
            const std::string& group,
            Place place,
            const std::function<void(std::span<const Place> places)>& work);

  // Sends of rank `rank`, one for each message. Returns when all are taken and received.
  void Exchange(int rank,
                const std::string& group,
                const char* op,
                std::span<const Message> sends,
                std::span<const Message> receives);

  // Whether the call can never end, and throwing why. The lock is held.
  [[nodiscard]] bool Broken(const ThreadCall& call) const;
  [[noreturn]] void ThrowBroken(const ThreadCall& call) const;

 private:
  [[nodiscard]] std::span<const int> Awaited(const ThreadCall& call) const;
  void WakeAll();
  void CheckPlaces(const std::string& group);
  void Receive(ThreadTeam::Lock& lock, int rank, const std::string& group, const char* op, const Message& message);
  void Withdraw(ThreadTeam::Lock& lock, int rank, std::deque<PendingSend>& pending);

  [[nodiscard]] std::deque<PendingSend*>& Mailbox(int from, int to) {
    return mailboxes_[static_cast<size_t>(from * size() + to)];
  }

  std::shared_ptr<ThreadTeam> team_;
  std::vector<int> members_;
  std::vector<Place> places_;
  int arrived_ = 0;
  int64_t turn_ = 0;  // how often all have arrived
  std::string mismatch_;
  std::vector<std::deque<PendingSend*>> mailboxes_;
};

}  // namespace ksa
