// What a process knows about checkpoints that it has verified.
#pragma once

#include <map>
#include <optional>
#include <string>

namespace ksa {

// Answers of verifications, which hold as long as no file of a checkpoint has changed (names, sizes, times, inodes): a
// save need not read hundreds of gigabytes again to know that the checkpoint before it is good. Not thread-safe.
class CheckedCheckpoints {
 public:
  // The checkpoint in the folder `path` was read whole, and is good or damaged. Remembers nothing of a folder that
  // cannot be looked at.
  void Remember(const std::string& path, bool good);

  // What was remembered; none when nothing is known, or something has changed since.
  [[nodiscard]] std::optional<bool> Recall(const std::string& path) const;

 private:
  struct Answer {
    std::string stamp;  // of the files when it was given
    bool good = false;
  };

  std::map<std::string, Answer> answers_;
};

}  // namespace ksa
