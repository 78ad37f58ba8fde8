// Ranks as threads of one process: for tests of whole meshes, and as the host side of several GPUs in one process.
//
// Sums are made in the order of the ranks. Everything is checked while it runs: ranks of a group that make different
// calls, or the same with other operations, types or sizes, all get an Error(kInternal) naming two of them with their
// calls; so do ranks that wait for each other so that none can go on. A rank that leaves while others wait for it gives
// those an Error(kPeerLost).
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace ksa {

class ThreadTeam;
class ThreadRendezvous;

// The world of `size` ranks. Tensors must lie on the host.
class ThreadGroup {
 public:
  explicit ThreadGroup(int size);
  ThreadGroup(const ThreadGroup&) = delete;
  ThreadGroup& operator=(const ThreadGroup&) = delete;
  ~ThreadGroup();

  // The world as rank `rank` sees it, for the one thread that plays this rank; at most once a rank. When the
  // communicator is destroyed the rank has left. May outlive the group.
  [[nodiscard]] std::unique_ptr<Communicator> Join(int rank);

  // The rank left because of `reason`, which those that wait for it are told.
  void Abandon(int rank, const std::string& reason);

 private:
  std::shared_ptr<ThreadTeam> team_;
  std::shared_ptr<ThreadRendezvous> world_;
};

// Runs `work` as each of `size` ranks at once and waits for all of them. What a rank throws makes it leave; the first
// exception, by rank, that is no Error(kPeerLost) is thrown again, or else the first.
void RunRanks(int size, const std::function<void(Communicator& world)>& work);

// The same, returning what each rank threw (null: nothing).
[[nodiscard]] std::vector<std::exception_ptr> RunRanksToEnd(int size,
                                                            const std::function<void(Communicator& world)>& work);

}  // namespace ksa
