// What people, schedulers and the clock ask of a running run, agreed by all its ranks.
#pragma once

#include <optional>
#include <string>

#include "parallel/comm/communicator.h"
#include "trainer/run/run_folder.h"
#include "trainer/run/stop_signal.h"
#include "trainer/run/wall_limit.h"

namespace ksa {

// The same on every rank.
struct Wish {
  StopCause stop = StopCause::kNone;
  bool save = false;      // a checkpoint now, and on
  std::string reason;     // of the stop
  bool all_over = false;  // every rank has done its part of what it was asked about
};

class Requests {
 public:
  // `folder`: where the files STOP and SAVE are looked for; null: nowhere. It and `world` must outlive this.
  Requests(Communicator& world, const RunFolder* folder, const WallLimit& wall);

  // Ranks see a signal at different times, and rank 0 alone looks at files and the clock: all act together or not at
  // all. Every rank calls it. `over`: whether this rank has done its part of something, a stage of a save; one exchange
  // serves both.
  [[nodiscard]] Wish Agree(bool over = false) const;

  [[nodiscard]] WallLimit& wall() { return wall_; }

  // The run ends: a request must not end the next start as well. Rank 0 alone. Error(kIo).
  void Consume() const { stop_.Consume(); }

 private:
  [[nodiscard]] std::string ReasonOf(const std::string& own) const;

  Communicator& world_;
  const RunFolder* folder_;
  StopSignal stop_;
  WallLimit wall_;
};

}  // namespace ksa
