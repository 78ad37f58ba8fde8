// Checkpoints that are written while training goes on. Training waits for a copy of the state alone; files are written
// by a thread that makes no call of MPI, and what ranks have to agree upon they agree upon between updates.
//
// A save has three stages: rank 0 prepares the folder, every rank writes its file, rank 0 commits. A stage ends when
// all ranks are done with it; each learns that from the update's one agreement (trainer/run/requests.h), and all call
// Advance together. What lies on the disk when, and what survives which crash, is as of SaveCheckpoint.
#pragma once

#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/core/device.h"
#include "model/autograd/parameter.h"
#include "parallel/comm/communicator.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/save_job.h"
#include "trainer/checkpoint/state_copy.h"

namespace ksa {

class AsyncSaver {
 public:
  // Takes host memory for the copy (StateCopy::BytesOf). The store, the world and what `stream` belongs to
  // must outlive it; the stream is that of all updates.
  AsyncSaver(const ParameterStore& store, Communicator& world, const Stream& stream);
  AsyncSaver(const AsyncSaver&) = delete;
  AsyncSaver& operator=(const AsyncSaver&) = delete;
  // Waits for this rank's thread, and removes what was not committed. For an end by an error: else call Finish.
  ~AsyncSaver();

  // Bytes of the copy of this rank.
  [[nodiscard]] static int64_t BytesOf(const ParameterStore& store) { return StateCopy::BytesOf(store); }

  // Copies the state and lets the writing begin. No save is pending; every rank calls it, at the same update.
  // `options.before_commit` and `options.warn` are called by the caller's thread, in Advance.
  void Begin(const CheckpointMeta& meta, const SaveOptions& options);

  // Call before anything queued on the stream changes the state: it then waits for the copy, on a GPU.
  void HoldBack() { copy_.HoldBack(); }

  [[nodiscard]] bool pending() const { return job_ != nullptr; }

  // Whether this rank has done its part of the stage; true where none is pending.
  [[nodiscard]] bool StageIsOver() const;

  // Every rank calls it when StageIsOver on all of them (else it waits). Begins the next stage; after the last one
  // returns the checkpoint's path, and none is pending. Throws as SaveCheckpoint does, on every rank alike, and then
  // none is pending either.
  std::optional<std::string> Advance();

  // Waits until the save that is pending is committed. Errors as Advance.
  std::string Finish();

 private:
  enum class Stage : int { kPrepare, kWrite, kCommit };

  [[nodiscard]] std::optional<std::string> EndStage();
  void BeginCommit(const std::vector<std::string>& lists);
  void TellWarnings();

  const ParameterStore& store_;
  Communicator& world_;
  StateCopy copy_;
  SaveOptions options_;           // of the save that is pending, as they were given
  std::unique_ptr<SaveJob> job_;  // null: none is pending
  Stage stage_ = Stage::kPrepare;
  std::vector<std::string> warnings_;  // written by the thread; read when its stage is over
  std::future<std::string> work_;      // this rank's part of the stage; invalid where it has none
};

}  // namespace ksa
