// The files of a folder's lock: `lock`, and while a dead one is taken over, files that follow it.
//
// To take over from a holder that is dead its file must not be removed: of two processes that found it dead, the slower
// would remove the lock of the faster. Instead the file `lock.after-<its name>` is made, which one process can do. Its
// maker is next; where that one died as well, the next file follows it in the same way. Whoever made the last file of
// the chain, and then sees that all files before are still those that were found dead, holds the lock. It renames a
// new file over `lock`, which ends all other chains, and removes the files between, the first one first.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ksa {

// "<host> <pid> <start time of the process, in clock ticks since the boot> <place> <token> <count>"
struct LockHolder {
  std::string host;
  int64_t pid = 0;  // 0: the file says nothing that can be read, as after a crash while it was written
  int64_t start = 0;
  std::string place;  // where `pid` means a process; empty: unknown
  std::string token;  // of this one lock; empty: unknown
};

// A file of the chain as it was read.
struct LockFile {
  std::string path;
  std::string text;
  uint64_t inode = 0;
  LockHolder holder;

  [[nodiscard]] bool SameHolder(const LockFile& other) const;
};

class LockChain {
 public:
  explicit LockChain(const std::string& folder) : root_(folder + "/lock") {}

  [[nodiscard]] const std::string& root() const { return root_; }

  // From `lock` on; empty where there is none. Error kCannotCreate, kIo.
  [[nodiscard]] std::vector<LockFile> Read() const;

  // One file; none where it isn't there. Errors as Read.
  [[nodiscard]] static std::optional<LockFile> Look(const std::string& path);

  // The file that the holder after `dead` makes; after nobody, `lock`.
  [[nodiscard]] std::string Next(const std::vector<LockFile>& dead) const;

  // Makes the next file, with `text`, and looks again. Whether its maker holds the lock now; if not, nothing is left
  // that would keep others out. Error kCannotCreate, kIo.
  [[nodiscard]] bool Take(const std::vector<LockFile>& dead, const std::string& text) const;

  // Called by the holder after Take: `text` moves to `lock`, and the files before it go. Error kCannotCreate, kIo.
  void Settle(const std::vector<LockFile>& dead, const std::string& text) const;

 private:
  std::string root_;
};

[[nodiscard]] LockHolder ParseHolder(const std::string& text);

// Creates a file that is not there, with `text`, flushed. Whether it was not there. Error kCannotCreate, kIo.
[[nodiscard]] bool CreateLockFile(const std::string& path, const std::string& text);

}  // namespace ksa
