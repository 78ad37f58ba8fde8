// Which checkpoints of a run stay.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "parallel/comm/communicator.h"
#include "trainer/checkpoint/checked.h"

namespace ksa {

struct PruneOptions {
  std::string folder;  // the run's `checkpoints`
  std::string run_id;
  int64_t newest = 0;  // step of the checkpoint that was just saved
  int32_t keep_last = 2;
  int64_t keep_every = 0;                        // steps that it divides are kept for good; 0: none
  std::function<void(const std::string&)> warn;  // called on rank 0
};

// Removes checkpoints of steps before `newest` until with it `keep_last` are left. Counted and removed are those of
// this run, of any attempt, that verify; links are counted, never removed. Damaged ones, ones that cannot be read,
// those that are kept for good, other runs' and other names are neither counted nor removed. What `checked` does not
// know is read whole, every rank of `world` a share, but for those that are kept for good: a run may have hundreds, and
// nothing is decided by them. A checkpoint that cannot be removed is a warning: the next save tries again. Every rank
// calls it; Error only where an exchange between ranks fails or memory does not suffice.
void Prune(const PruneOptions& options, CheckedCheckpoints& checked, Communicator& world);

// Whether the checkpoint of step `step` in the folder `path` is known or found to be good; every rank calls it and gets
// the same answer. Rank 0 warns when it is not.
[[nodiscard]] bool IsGood(const std::string& path,
                          int64_t step,
                          CheckedCheckpoints& checked,
                          Communicator& world,
                          const std::function<void(const std::string&)>& warn);

}  // namespace ksa
