// The checkpoints of a run: what is in them, when one is made, and whether training waits for it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "trainer/checkpoint/async_saver.h"
#include "trainer/loop/committed_run.h"
#include "trainer/loop/saver.h"
#include "trainer/optim/skip_rule.h"
#include "trainer/run/requests.h"
#include "trainer/run/wall_limit.h"

namespace ksa {

class RunSaves {
 public:
  // All must outlive it. `skips`: what is known of the updates that are done. Takes memory for asynchronous saves where
  // checkpoint.async says so, one is due before the last update, and all ranks have it; says in the log what it does.
  // Every rank makes its own together.
  RunSaves(const CommittedRun& run, WallLimit& wall, std::function<SkipState()> skips);
  RunSaves(const RunSaves&) = delete;
  RunSaves& operator=(const RunSaves&) = delete;
  ~RunSaves();

  // This rank's word for the agreement that precedes After.
  [[nodiscard]] bool StageIsOver() const { return async_ != nullptr && async_->pending() && async_->StageIsOver(); }

  // After `update`, with what the ranks agreed upon. `ending`: no update follows, and the checkpoint is on the disk
  // when the call returns. Whether a file SAVE has been answered. Errors as CheckpointSaver::After.
  [[nodiscard]] bool After(int64_t update, const Wish& wish, bool ending);

  // CheckpointSaver::Settle.
  void Settle() { saver_.Settle(); }

  // The newest checkpoint that was saved; empty: none.
  [[nodiscard]] const std::string& checkpoint() const { return checkpoint_; }

 private:
  using Clock = std::chrono::steady_clock;

  [[nodiscard]] CheckpointSaver::Hooks HooksOf();
  void OpenAsync();
  [[nodiscard]] bool TakeCopy();
  [[nodiscard]] CheckpointMeta MetaOf(int64_t update) const;
  [[nodiscard]] SaveOptions Options() const;
  [[nodiscard]] std::string Save(int64_t update);
  void Begin(int64_t update);
  [[nodiscard]] std::optional<std::string> Advance(bool wait);
  [[nodiscard]] std::string Saved(const std::string& path, int64_t update, Clock::time_point begin);
  void Sleep(int64_t seconds);

  CommittedRun run_;
  WallLimit& wall_;
  std::function<SkipState()> skips_;
  std::unique_ptr<AsyncSaver> async_;  // null: training waits for every save
  int64_t begun_ = 0;                  // update of the save that is pending
  Clock::time_point begin_;            // when it was begun
  CheckpointSaver saver_;
  bool asked_ = false;  // a file SAVE waits for the save that is pending
  std::string checkpoint_;
};

}  // namespace ksa
