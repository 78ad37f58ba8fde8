#include "parallel/comm/thread_rendezvous.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "kernels/core/error.h"

namespace ksa {

bool ThreadCall::Matches(const ThreadCall& other) const {
  return kind == other.kind && std::string_view(op) == other.op && dtype == other.dtype && elements == other.elements &&
         root == other.root && std::equal(sizes.begin(), sizes.end(), other.sizes.begin(), other.sizes.end());
}

std::string ThreadCall::ToString() const {
  std::string text = fmt::format("{} for '{}'", NameOf(kind), op);
  if (elements > 0) {
    text += fmt::format(" of {} {}", elements, NameOf(dtype));
  }
  if (!sizes.empty()) {
    text += fmt::format(" in parts of {}", fmt::join(sizes, ", "));
  }
  if (root >= 0) {
    text += fmt::format(" from rank {}", root);
  }
  return text + detail;
}

void ThreadTeam::Block(
    Lock& lock, int rank, ThreadRendezvous& rendezvous, const ThreadCall& call, const std::function<bool()>& ready) {
  Rank& self = ranks_[static_cast<size_t>(rank)];
  const Waiting waiting{rendezvous, call, ready};
  while (!ready()) {
    if (rendezvous.Broken(call)) {
      rendezvous.ThrowBroken(call);
    }
    self.waiting = &waiting;
    FindDeadlock();
    if (failure_.empty()) {
      self.wake.wait(lock);
    }
    self.waiting = nullptr;
  }
}

void ThreadTeam::BlockSurely(Lock& lock, int rank, const std::function<bool()>& ready) {
  ranks_[static_cast<size_t>(rank)].wake.wait(lock, ready);
}

void ThreadTeam::Leave(int rank, const std::string& reason) {
  const Lock lock = Acquire();
  std::optional<std::string>& gone = ranks_[static_cast<size_t>(rank)].gone;
  if (!gone.has_value()) {
    gone = reason;
    FindDeadlock();
    WakeAll();
  }
}

void ThreadTeam::WakeAll() {
  for (Rank& rank : ranks_) {
    rank.wake.notify_one();
  }
}

// Every rank that is still here waits, and nothing has happened that ends a wait.
void ThreadTeam::FindDeadlock() {
  std::string calls;
  for (size_t i = 0; i < ranks_.size(); ++i) {
    const Rank& rank = ranks_[i];
    if (rank.gone.has_value()) {
      continue;
    }
    if (rank.waiting == nullptr || rank.waiting->rendezvous.Broken(rank.waiting->call) || rank.waiting->ready()) {
      return;
    }
    calls += fmt::format("\n  rank {} of all: {}", i, rank.waiting->call.ToString());
  }
  if (!calls.empty()) {
    failure_ = "the ranks wait for each other, and none can go on:" + calls;
    WakeAll();
  }
}

ThreadRendezvous::ThreadRendezvous(std::shared_ptr<ThreadTeam> team, std::vector<int> members)
    : team_(std::move(team)),
      members_(std::move(members)),
      places_(members_.size()),
      mailboxes_(members_.size() * members_.size()) {}

std::span<const int> ThreadRendezvous::Awaited(const ThreadCall& call) const {
  const std::span<const int> all(members_);
  return call.peer < 0 ? all : all.subspan(static_cast<size_t>(call.peer), 1);
}

bool ThreadRendezvous::Broken(const ThreadCall& call) const {
  const std::span<const int> awaited = Awaited(call);
  return !mismatch_.empty() || !team_->failure().empty() ||
         std::any_of(awaited.begin(), awaited.end(), [&](int member) { return team_->gone(member).has_value(); });
}

void ThreadRendezvous::ThrowBroken(const ThreadCall& call) const {
  // What the ranks did wrong comes first: all are told of it, also those that see others leave because of it.
  for (const std::string& failure : {mismatch_, team_->failure()}) {
    if (!failure.empty()) {
      throw Error(ExitCode::kInternal, failure);
    }
  }
  for (const int member : Awaited(call)) {
    if (const std::optional<std::string>& reason = team_->gone(member); reason.has_value()) {
      Fail(ExitCode::kPeerLost, "{}: rank {} of all has left: {}", call.ToString(), member, *reason);
    }
  }
  Fail(ExitCode::kInternal, "{} was given up without a reason", call.ToString());
}

void ThreadRendezvous::WakeAll() {
  for (const int member : members_) {
    team_->Wake(member);
  }
}

void ThreadRendezvous::CheckPlaces(const std::string& group) {
  for (size_t rank = 1; rank < places_.size(); ++rank) {
    if (!places_[rank].call.Matches(places_[0].call)) {
      mismatch_ = fmt::format("different calls in the group '{}': rank 0 makes {}, rank {} makes {}",
                              group,
                              places_[0].call.ToString(),
                              rank,
                              places_[rank].call.ToString());
      return;
    }
  }
}

void ThreadRendezvous::Meet(int rank,
                            const std::string& group,
                            Place place,
                            const std::function<void(std::span<const Place> places)>& work) {
  Place& own = places_[static_cast<size_t>(rank)];
  // Waits until all have arrived once more; the last to arrive does not wait, and `first` runs before the others go on.
  const auto arrive = [&](const std::function<void()>& last, const std::function<void(int64_t)>& wait) {
    const int64_t turn = turn_;
    if (++arrived_ < size()) {
      wait(turn);
      return;
    }
    last();
    arrived_ = 0;
    ++turn_;
    WakeAll();
  };

  ThreadTeam::Lock lock = team_->Acquire();
  if (Broken(place.call)) {
    ThrowBroken(place.call);
  }
  own = std::move(place);
  arrive(
      [&] { CheckPlaces(group); },
      [&](int64_t turn) { team_->Block(lock, member(rank), *this, own.call, [this, turn] { return turn_ != turn; }); });
  if (!mismatch_.empty()) {
    ThrowBroken(own.call);
  }
  lock.unlock();
  work(places_);
  lock.lock();
  // All are between the two meetings, where nothing throws: each will come.
  arrive([] {}, [&](int64_t turn) { team_->BlockSurely(lock, member(rank), [this, turn] { return turn_ != turn; }); });
}

// A send that failed must not be read any more; one that is being copied is waited for.
void ThreadRendezvous::Withdraw(ThreadTeam::Lock& lock, int rank, std::deque<PendingSend>& pending) {
  for (int peer = 0; peer < size(); ++peer) {
    Mailbox(rank, peer).clear();
  }
  team_->BlockSurely(lock, member(rank), [&] {
    return std::none_of(pending.begin(), pending.end(), [](const PendingSend& send) {
      return send.state == PendingSend::State::kTaken;
    });
  });
}

void ThreadRendezvous::Receive(
    ThreadTeam::Lock& lock, int rank, const std::string& group, const char* op, const Message& message) {
  std::deque<PendingSend*>& mail = Mailbox(message.peer, rank);
  const ThreadCall call = {
      .kind = CollectiveKind::kExchange,
      .op = op,
      .dtype = message.data.dtype,
      .elements = message.data.size(),
      .peer = message.peer,
      .detail = fmt::format(", waiting for a message from rank {} of the group '{}'", message.peer, group)};
  team_->Block(lock, member(rank), *this, call, [&mail] { return !mail.empty(); });
  PendingSend& send = *mail.front();
  if (std::string_view(send.op) != op || send.data.dtype != message.data.dtype ||
      send.data.size() != message.data.size()) {
    mismatch_ = fmt::format(
        "different messages in the group '{}': rank {} sends {} {} for '{}', rank {} receives {} {} for '{}'",
        group,
        message.peer,
        send.data.size(),
        NameOf(send.data.dtype),
        send.op,
        rank,
        message.data.size(),
        NameOf(message.data.dtype),
        op);
    WakeAll();
    ThrowBroken(call);
  }
  mail.pop_front();
  send.state = PendingSend::State::kTaken;
  lock.unlock();
  if (message.data.size() > 0) {
    std::memcpy(message.data.data, send.data.data, static_cast<size_t>(message.data.bytes()));
  }
  lock.lock();
  send.state = PendingSend::State::kDone;
  team_->Wake(member(message.peer));
}

void ThreadRendezvous::Exchange(int rank,
                                const std::string& group,
                                const char* op,
                                std::span<const Message> sends,
                                std::span<const Message> receives) {
  std::deque<PendingSend> pending;
  ThreadTeam::Lock lock = team_->Acquire();
  ThreadCall call = {.kind = CollectiveKind::kExchange, .op = op};
  for (const Message& message : sends) {
    pending.push_back({.op = op, .data = message.data});
    Mailbox(rank, message.peer).push_back(&pending.back());
    team_->Wake(member(message.peer));
  }
  try {
    for (const Message& message : receives) {
      Receive(lock, rank, group, op, message);
    }
    for (size_t i = 0; i < pending.size(); ++i) {
      call.dtype = pending[i].data.dtype;
      call.elements = pending[i].data.size();
      call.peer = sends[i].peer;
      call.detail = fmt::format(", waiting for rank {} of the group '{}' to take a message", sends[i].peer, group);
      team_->Block(
          lock, member(rank), *this, call, [&pending, i] { return pending[i].state == PendingSend::State::kDone; });
    }
  } catch (...) {
    Withdraw(lock, rank, pending);
    throw;
  }
}

}  // namespace ksa
