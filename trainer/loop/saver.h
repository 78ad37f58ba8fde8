// Checkpoints of a running run: what is in them, and what happens when one cannot be written.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "kernels/core/error.h"

namespace ksa {

// When a save that failed is tried again. One that fails costs nothing as long as older checkpoints stand and training
// goes on; meanwhile somebody can make room.
class SaveRetries {
 public:
  // Further tries before the failure counts.
  explicit SaveRetries(int32_t retries) : retries_(retries) {}

  // Whether one is to be made after this update: it is wanted, or one that was wanted has failed and its time has come.
  [[nodiscard]] bool IsTime(int64_t update, bool wanted) const;

  // A try failed; false: it was the last one. The next is made 1, 2, 4 … at most 64 updates later.
  [[nodiscard]] bool Failed(int64_t update);
  void Succeeded();

  [[nodiscard]] int32_t failures() const { return failures_; }

  // Updates, or seconds where no update follows, until the next try.
  [[nodiscard]] int64_t wait() const;

 private:
  int32_t retries_;
  int32_t failures_ = 0;
  int64_t next_ = 0;  // update of the next try, after a failure
};

// Makes the checkpoints of a run through `save`, which every rank calls alike and which throws alike on all of them.
class CheckpointSaver {
 public:
  struct Hooks {
    std::function<std::string(int64_t update)> save;  // returns the checkpoint's path
    std::function<void(const std::string&)> info;
    std::function<void(const std::string&)> warn;
    std::function<void(int64_t seconds)> sleep;
  };

  CheckpointSaver(int32_t retries, Hooks hooks) : retries_(retries), hooks_(std::move(hooks)) {}

  // After `update` is done. `wanted`: a checkpoint is due. `ending`: no update follows, so a checkpoint is made here or
  // the call throws. Errors of writing (kIo, kCannotCreate) are retried, others are not. Returns whether a checkpoint
  // of this update is on disk.
  bool After(int64_t update, bool wanted, bool ending);

 private:
  bool Try(int64_t update, bool ending);

  SaveRetries retries_;
  Hooks hooks_;
};

}  // namespace ksa
