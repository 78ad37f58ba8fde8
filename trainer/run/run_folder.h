// The run folder: where everything of a run lies, and the lock that keeps a second trainer out.
//
//   config.resolved.yaml metrics.jsonl tensorboard/ log.txt checkpoints/ lock, the tokenizer's file, run_id
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "parallel/comm/communicator.h"
#include "trainer/run/folder_lock.h"

namespace ksa {

// Every rank constructs one. Rank 0 makes and locks the folder; where that fails, every rank throws the same
// Error(kCannotCreate) (or kBadData for an unreadable run_id).
class RunFolder {
 public:
  RunFolder(const std::string& path, Communicator& world);

  // The same on every rank. run_id is made at the first start and kept; attempt counts starts from 1.
  [[nodiscard]] const std::string& run_id() const { return run_id_; }

  [[nodiscard]] int64_t attempt() const { return attempt_; }

  [[nodiscard]] const std::string& path() const { return path_; }

  [[nodiscard]] std::string MetricsPath() const { return path_ + "/metrics.jsonl"; }

  [[nodiscard]] std::string LogPath() const { return path_ + "/log.txt"; }

  [[nodiscard]] std::string TensorboardFolder() const { return path_ + "/tensorboard"; }

  [[nodiscard]] std::string CheckpointFolder() const { return path_ + "/checkpoints"; }

  [[nodiscard]] std::string StopPath() const { return path_ + "/STOP"; }

  // Rank 0 only. Error(kCannotCreate), kIo.
  void WriteConfig(const std::string& yaml) const;              // config.resolved.yaml
  void CopyTokenizer(const std::string& tokenizer_file) const;  // under its own file name

 private:
  // Error(kCannotCreate) where a rank does not see the folder with this identity.
  void CheckIsShared(const std::string& identity, Communicator& world) const;

  std::string path_;
  std::string run_id_;
  int64_t attempt_ = 0;
  std::unique_ptr<FolderLock> lock_;  // rank 0
};

}  // namespace ksa
