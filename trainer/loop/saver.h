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
    // Of saves that go on while training does; both empty: there are none. `begin` begins one. `advance` takes the one
    // that is pending a stage further, or waits for its end; it returns the checkpoint's path when it is saved, and
    // throws as `save` does.
    std::function<void(int64_t update)> begin = {};
    std::function<std::optional<std::string>(bool wait)> advance = {};
  };

  CheckpointSaver(int32_t retries, Hooks hooks) : retries_(retries), hooks_(std::move(hooks)) {}

  // After `update` is done. `wanted`: a checkpoint is due. `ending`: no update follows, so a checkpoint is made here or
  // the call throws. `over`: a stage of the pending save is over on all ranks. Errors of writing (kIo, kCannotCreate)
  // are retried, others are not. Returns whether a checkpoint was completed in this call: of this update, or the one
  // that was pending. One that is due while another is pending waits for it.
  bool After(int64_t update, bool wanted, bool ending, bool over = false);

  // Waits for the pending save, if there is one, where nothing follows but an error of the run. What goes wrong with it
  // is a warning.
  void Settle();

  [[nodiscard]] bool pending() const { return pending_.has_value(); }

 private:
  // Whether a checkpoint of update `step` was completed by `save`, which returns its path, if so.
  bool Try(int64_t step, int64_t update, bool ending, const std::function<std::optional<std::string>()>& save);
  bool Advance(int64_t update, bool ending, bool wait);

  SaveRetries retries_;
  Hooks hooks_;
  std::optional<int64_t> pending_;  // update whose checkpoint is being written
};

}  // namespace ksa
