// A folder that appears whole under its name, or not at all.
#pragma once

#include <memory>
#include <string>

#include "data/files/posix_file.h"

namespace ksa {

// Files are written to staging(); Commit() puts them in place, and without it the destructor removes them. A folder
// that is new is written beside its place, as `PATH.tmp-<process>`, and renamed. An empty folder that is there already,
// which may be a disk of its own or the working directory, keeps its place: files are written to `PATH/.ksa-tmp` and
// moved, index.json last. Links are resolved first.
// What becomes of files that a process left that was killed.
enum class LeftOver : int {
  kNone,    // names differ by process, so there are none
  kRefuse,  // whole results (kUnfinishedFile lies beside them) are an error; anything else is removed
  kTake,    // whole results stay, for the caller to go on with
};

// Beside results that a later process may go on with: what it needs to know.
inline constexpr const char* kUnfinishedFile = "unfinished.json";

class StagedFolder {
 public:
  // Everything that can be known is checked here, before the first byte. Error kCannotCreate: `path` holds something,
  // is no folder, has a name that cannot stand in an index (not UTF-8, too long), or may not be made there; kIo.
  //
  // Other than kNone, a folder that is new is written in `PATH.tmp`, which one process at a time holds.
  explicit StagedFolder(const std::string& path, LeftOver left_over = LeftOver::kNone);
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;
  ~StagedFolder();

  [[nodiscard]] const std::string& staging() const { return staging_; }

  // The last part of the resolved path.
  [[nodiscard]] std::string name() const;

  // Whether there are results to go on with.
  [[nodiscard]] bool resumed() const { return resumed_; }

  // From now on the destructor leaves everything for a later process.
  void Keep() { keep_ = true; }

  void Commit();

 private:
  void TakeOver(LeftOver left_over);

  std::string path_;  // resolved
  std::string staging_;
  bool inside_ = false;  // staging_ lies in path_
  bool resumed_ = false;
  bool keep_ = false;
  bool committed_ = false;
  std::unique_ptr<File> lock_;
};

}  // namespace ksa
