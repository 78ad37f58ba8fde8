#include "trainer/commands/ranks_of_command.h"

#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>

#include <fmt/core.h>

#include "parallel/comm/nccl.h"

namespace ksa {

void EndAllRanks(const Error& error,
                 int rank,
                 const std::string& host,
                 const std::function<void(const std::string&)>& record) {
  if (rank > 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    const std::string text = fmt::format("rank {} on host {}: {}", rank, host, error.what());
    fmt::print(stderr, "ksa: {}\n", text);
    if (record) {
      record(text);
    }
  } else {
    fmt::print(stderr, "ksa: {}\n", error.what());
  }
  std::fflush(nullptr);
  MpiSession::Abort(error.code());
}

void RunOnRanks(const std::function<void(const RankOfCommand& rank)>& body) {
  Watchdog watchdog(WatchdogSeconds());
  const MpiSession mpi;
  const std::unique_ptr<Communicator> world = mpi.World();
  watchdog.SetRank(world->rank(), MpiSession::HostName());
  watchdog.SetPoll(PollNcclErrors);
  world->SetObserver(&watchdog);
  try {
    ThrowAsErrors([&] {
      watchdog.Enter(Phase::kMeasure);
      body({.mpi = mpi, .world = *world, .watchdog = watchdog});
      world->Barrier();
    });
    watchdog.Enter(Phase::kShutDown);
  } catch (const Error& error) {
    if (world->size() == 1) {
      throw;
    }
    EndAllRanks(error, world->rank(), MpiSession::HostName());
  }
}

}  // namespace ksa
