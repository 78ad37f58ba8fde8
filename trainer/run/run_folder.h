// The run folder: where everything of a run lies, and the lock that keeps a second trainer out.
//
//   config.resolved.yaml metrics.jsonl tensorboard/ log.txt checkpoints/ lock, the tokenizer's file, run_id,
//   first_checkpoint, and requests: STOP, SAVE
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "parallel/comm/communicator.h"
#include "trainer/run/folder_identity.h"
#include "trainer/run/folder_lock.h"

namespace ksa {

// Where things of a run lie: names alone, nothing is looked at.
class RunPaths {
 public:
  explicit RunPaths(std::string folder) : folder_(std::move(folder)) {}

  [[nodiscard]] const std::string& folder() const { return folder_; }

  [[nodiscard]] std::string Metrics() const { return folder_ + "/metrics.jsonl"; }

  [[nodiscard]] std::string Log() const { return folder_ + "/log.txt"; }

  [[nodiscard]] std::string Tensorboard() const { return folder_ + "/tensorboard"; }

  [[nodiscard]] std::string Checkpoints() const { return folder_ + "/checkpoints"; }

  [[nodiscard]] std::string Configuration() const { return folder_ + "/config.resolved.yaml"; }

  // Of a tokenizer's file: in the folder, under its own name.
  [[nodiscard]] std::string TokenizerCopy(const std::string& tokenizer_file) const;

  [[nodiscard]] std::string Ranks() const { return folder_ + "/ranks"; }

  [[nodiscard]] std::string Stop() const { return folder_ + "/STOP"; }

  [[nodiscard]] std::string Save() const { return folder_ + "/SAVE"; }

  // Says that the run has committed a checkpoint; outside of checkpoints/, so that a disk that is not mounted there is
  // not taken for a new run.
  [[nodiscard]] std::string FirstCheckpoint() const { return folder_ + "/first_checkpoint"; }

 private:
  std::string folder_;
};

// A start in a run folder, from its lock to its end. Every rank constructs one; what only rank 0 does is said.
//
// Until Commit() nothing of the folder stays changed but the lock: a start that is refused leaves it as it was, and
// leaves no folder that was not there.
class RunFolder {
 public:
  using Say = std::function<void(const std::string& line)>;

  // Rank 0 makes the folder and locks it; `say` gets what there is to say while it waits for the lock (empty: standard
  // error). Where that fails, or a rank does not see it, every rank throws the same
  // Error(kCannotCreate), kIo.
  RunFolder(const std::string& path, Communicator& world, const Say& say = {});
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  ~RunFolder();

  [[nodiscard]] const RunPaths& paths() const { return paths_; }

  // The same on every rank. run_id is made at the first start and kept; attempt counts starts from 1.
  [[nodiscard]] const std::string& run_id() const { return identity_.run_id; }

  [[nodiscard]] int64_t attempt() const { return identity_.attempt; }

  // Rank 0: what was found out of order and put right, to be logged; may be empty.
  [[nodiscard]] const std::string& note() const { return note_; }

  // Rank 0: the start counts from here on. Writes its number, the configuration (YAML) and a copy of the tokenizer's
  // file, durably. Error(kCannotCreate), kIo.
  void Commit(const std::string& configuration, const std::string& tokenizer_file);

  // Rank 0: notes that the run has a checkpoint, unless that is noted. Error(kCannotCreate), kIo.
  void RecordFirstCheckpoint(int64_t step) const;

  // Rank 0: whether a checkpoint is asked for now (the file SAVE), and that it was made. Error(kIo).
  [[nodiscard]] bool SaveRequested() const;
  void ConsumeSave() const;

  // Gives the folder back, before the destructor: the lock, and without Commit() the folders that were made.
  void Release();

 private:
  [[nodiscard]] std::string Open(const Say& say);
  void CheckIsShared(const std::string& word, Communicator& world) const;

  RunPaths paths_;
  std::vector<std::string> made_;  // folders, the outermost first
  std::string note_;
  RunIdentity identity_;
  bool committed_ = false;
  std::unique_ptr<FolderLock> lock_;  // rank 0
};

// Error(kBadData) where the file of a tokenizer is none of the names that one may have: it would overwrite something
// else of a run folder.
void CheckTokenizerName(const std::string& tokenizer_file);

}  // namespace ksa
