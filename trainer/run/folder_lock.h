// Who may write into a folder: a file `lock` that says who holds it and counts up while the holder lives.
//
// Nothing here asks flock(2), which is local to a host on Lustre and on some mounts of NFS and BeeGFS, and is missing
// elsewhere. What every file system has is creation of a file that fails when the file is there (O_EXCL).
//
// A holder of this boot of this host is judged by its process. Any other one is judged by its count, over an interval
// of this host's clock: one that goes on lives.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

namespace ksa {

struct FolderLockOptions {
  // Gets what there is to say while it waits; empty: standard error.
  std::function<void(const std::string& line)> say;

  // For tests: another host, other times.
  std::string host;                           // the name in messages; empty: this host's
  std::string place;                          // where a process number means a process; empty: this boot of this host
  std::chrono::milliseconds beat{5000};       // between two counts
  std::chrono::milliseconds patience{60000};  // without a count another host's holder is dead
  // Gets the reason when the lock was lost; empty: the process says so and ends with kCannotCreate.
  std::function<void(const std::string& reason)> on_lost;
};

class FolderLock {
 public:
  // Error(kCannotCreate) naming the holder when the folder is locked; kCannotCreate or kIo with the words of errno when
  // the lock cannot be made. Waits `patience` where another host's holder may be dead. Of any number of processes that
  // try at the same time at most one gets the lock.
  explicit FolderLock(const std::string& folder, FolderLockOptions options = {});
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock();  // removes the lock, if it is still this one's

 private:
  class Beat;

  std::shared_ptr<Beat> beat_;
  std::thread thread_;
};

}  // namespace ksa
