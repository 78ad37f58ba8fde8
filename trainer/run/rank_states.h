// Where ranks say that they stand still, so that others can name the one that they wait for: a file a rank in the run
// folder. Nothing is written while a run goes on.
//
// A watchdog asks when something hangs, and that may be the file system. So files are read and written by a thread of
// their own, and nobody waits for it without a limit.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "trainer/run/side_thread.h"

namespace ksa {

class RankStates {
 public:
  // `folder` is made when it is first needed. `hosts`: of every rank.
  RankStates(std::string folder, int rank, std::vector<std::string> hosts);
  RankStates(const RankStates&) = delete;
  RankStates& operator=(const RankStates&) = delete;
  ~RankStates();  // withdraws

  // This rank's state, in one line. Both return at once; what fails is not reported.
  void Tell(const std::string& state);
  void Withdraw();

  // Of the other ranks: who waits at the same place as `own`, who stands elsewhere, and who says nothing; or that the
  // run folder did not answer within `limit`.
  [[nodiscard]] std::string Others(const std::string& own, std::chrono::milliseconds limit) const;

  // Whether all that was asked for is done by then.
  [[nodiscard]] bool Finish(std::chrono::milliseconds limit) const { return thread_->Finish(limit); }

 private:
  struct Files;

  std::shared_ptr<const Files> files_;
  std::unique_ptr<SideThread> thread_;
};

}  // namespace ksa
