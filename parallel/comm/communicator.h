// Collectives among a group of ranks. Every rank of the group makes the same calls in the same order.
//
// Two faces. Tensor collectives work on memory where the stream computes; each names the operation that needs it, and
// is queued in the order of the stream: on the CPU it is done when the call returns. Host values are a few bytes that
// the program itself reads at once.
//
// Sums are made in an order that depends on the group alone, so that runs repeat in bits. Failures (a lost peer, an
// error of MPI or NCCL) throw Error(kPeerLost) naming the call and its operation.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

enum class CollectiveKind : int {
  kAllReduce,
  kReduceScatter,
  kAllGather,
  kAllToAll,
  kExchange,  // point to point
  kBroadcast,
  kHost,  // host values and barriers
};
inline constexpr int kCollectiveKinds = 7;

[[nodiscard]] const char* NameOf(CollectiveKind kind);  // "all-reduce"

// Of one kind of call, on this rank. Bytes that leave and reach this rank as the data demands, whatever a library sends
// under way: an all-reduce counts 2·(P-1)/P of its buffer each way, a reduce-scatter and an all-gather (P-1)/P.
struct CommCount {
  int64_t calls = 0;
  int64_t sent = 0;
  int64_t received = 0;
};

using CommCounts = std::array<CommCount, kCollectiveKinds>;  // by static_cast<size_t>(kind)

// When later work of the stream sees the results.
enum class Ordering : int {
  kInOrder,    // all of it does
  kUntilWait,  // only what follows Wait; buffers must stay untouched until then. Runs beside other work where it can
};

// One part of an exchange: `data` goes to, or comes from, rank `peer`. Contiguous.
struct Message {
  int peer = 0;
  TensorView data;
};

class Communicator;

// A call with tensors, as it is counted.
struct CommTransfer {
  CollectiveKind kind = CollectiveKind::kAllReduce;
  const char* op = "";
  int64_t sent = 0;
  int64_t received = 0;
  std::span<const Message> sends;  // of an exchange
  std::span<const Message> receives;
};

// Told when a call begins and ends on the host, so that somebody else can say where a rank hangs; and what it moves, so
// that somebody else can count it.
class CommObserver {
 public:
  CommObserver() = default;
  CommObserver(const CommObserver&) = delete;
  CommObserver& operator=(const CommObserver&) = delete;
  virtual ~CommObserver() = default;
  virtual void Begin(const char* group, CollectiveKind kind, const char* op, int64_t bytes) = 0;
  virtual void End() = 0;

  // What a call with tensors moves, before it begins; of several ranks.
  virtual void Moves(const Communicator& /*group*/, const CommTransfer& /*transfer*/) {}

  // Dry groups alone: later work needs the results of all calls of this group so far.
  virtual void Waits(const Communicator& /*group*/) {}
};

class Communicator {
 public:
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  virtual ~Communicator() = default;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;

  // A new group of the `size` ranks that give the same color, in which this one is number `rank`. All ranks of this
  // group call it. The new group must not outlive what this one needs (an MPI session, a thread group).
  [[nodiscard]] virtual std::unique_ptr<Communicator> Split(int color, int rank, int size) = 0;

  // How the group is called in messages: "world", "context".
  void SetName(std::string name) { name_ = std::move(name); }

  [[nodiscard]] const std::string& name() const { return name_; }

  // `observer` outlives the group's calls; null: nobody. Groups split off later have the same.
  void SetObserver(CommObserver* observer) { observer_ = observer; }

  [[nodiscard]] CommObserver* observer() const { return observer_; }

  [[nodiscard]] const CommCounts& counts() const { return counts_; }

  void ResetCounts() { counts_ = {}; }

  // --- tensors, contiguous
  // x [any shape] = sum over ranks of x, fp32 or fp64; the same bits on every rank.
  void AllReduceSum(const char* op, const TensorView& x, const Stream& stream, Ordering ordering = Ordering::kInOrder);
  // x [size · n] holds n elements for every rank, fp32 or fp64; afterwards this rank's n elements hold their sum over
  // ranks, the rest of x is undefined.
  void ReduceScatterSum(const char* op,
                        const TensorView& x,
                        const Stream& stream,
                        Ordering ordering = Ordering::kInOrder);
  // x [size · n]: every rank's own n elements are copied to all ranks. Any dtype.
  void AllGather(const char* op, const TensorView& x, const Stream& stream, Ordering ordering = Ordering::kInOrder);
  // The same with parts of different sizes: part r of x (its first dimension) has sizes[r] rows. Any dtype.
  void AllGatherV(const char* op,
                  const TensorView& x,
                  std::span<const int64_t> sizes,
                  const Stream& stream,
                  Ordering ordering = Ordering::kInOrder);
  // from, to [size · n]: part r of `from` goes to rank r, part r of `to` comes from it. Any dtype; not in place.
  void AllToAll(const char* op,
                const TensorView& from,
                const TensorView& to,
                const Stream& stream,
                Ordering ordering = Ordering::kInOrder);
  // Point to point, all messages of a call at once: the n-th message that a rank sends to a peer is the n-th one that
  // the peer receives from it. Messages to oneself are copies. Any dtype. Only ranks with messages need to call it.
  void Exchange(const char* op,
                std::span<const Message> sends,
                std::span<const Message> receives,
                const Stream& stream,
                Ordering ordering = Ordering::kInOrder);
  void Broadcast(
      const char* op, const TensorView& x, int root, const Stream& stream, Ordering ordering = Ordering::kInOrder);

  // Later work of `stream` sees the results of all calls so far.
  virtual void Wait(const Stream& stream) = 0;

  // --- host values
  [[nodiscard]] int64_t Sum(int64_t x);
  [[nodiscard]] double Sum(double x);
  [[nodiscard]] int64_t Max(int64_t x);
  void Broadcast(std::string& bytes, int root);
  [[nodiscard]] std::vector<std::string> Gather(const std::string& bytes);  // of all ranks, on all ranks
  void Barrier();

 protected:
  // What a backend provides: the same calls, checked, queued at once, results after Wait. Not called in a group of one.
  virtual void DoAllReduceSum(const char* op, const TensorView& x, const Stream& stream) = 0;
  virtual void DoReduceScatterSum(const char* op, const TensorView& x, const Stream& stream) = 0;
  virtual void DoAllGatherV(const char* op,
                            const TensorView& x,
                            std::span<const int64_t> sizes,
                            const Stream& stream) = 0;
  virtual void DoAllToAll(const char* op, const TensorView& from, const TensorView& to, const Stream& stream) = 0;
  virtual void DoExchange(const char* op,
                          std::span<const Message> sends,
                          std::span<const Message> receives,
                          const Stream& stream) = 0;
  virtual void DoBroadcast(const char* op, const TensorView& x, int root, const Stream& stream) = 0;
  virtual int64_t DoSum(int64_t x) = 0;
  virtual double DoSum(double x) = 0;
  virtual int64_t DoMax(int64_t x) = 0;
  virtual void DoBroadcast(std::string& bytes, int root) = 0;
  virtual std::vector<std::string> DoGather(const std::string& bytes) = 0;
  virtual void DoBarrier() = 0;

 private:
  template <typename Call>
  decltype(auto) Observed(CollectiveKind kind, const char* op, int64_t bytes, const Call& call);
  void Count(const CommTransfer& transfer);
  void Finish(const Stream& stream, Ordering ordering);

  std::string name_ = "world";
  CommObserver* observer_ = nullptr;
  CommCounts counts_{};
};

// Calls of a group that began with kUntilWait on a stream. While they run they read and write memory that may not be
// given back; so whatever owns that memory holds this behind it, and the memory is not handed out again before the
// calls are done, even where an exception comes between the call and Wait.
class PendingCalls {
 public:
  PendingCalls(Communicator& group, const Stream& stream) : group_(&group), stream_(stream) {}

  PendingCalls(const PendingCalls&) = delete;
  PendingCalls& operator=(const PendingCalls&) = delete;
  ~PendingCalls();

  // The group's Wait, once.
  void Wait();

 private:
  Communicator* group_;  // null: waited for
  Stream stream_;
};

// A group of this rank alone: every collective is the identity.
[[nodiscard]] std::unique_ptr<Communicator> MakeSelfCommunicator();

// Rank `rank` of a group of `size` that does not exist: nothing moves, calls are counted, host values stay as they are.
// For plans of memory and of communication.
[[nodiscard]] std::unique_ptr<Communicator> MakeDryCommunicator(int size, int rank);

}  // namespace ksa
