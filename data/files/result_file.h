// Results that a command was asked to write.
#pragma once

#include <string>

#include "data/files/posix_file.h"

namespace ksa {

// A path of the user's that is opened before the work, so that one which cannot be written is known at the start, and
// written after it: it may be a device or a pipe as well. Until Write what was there stays as it is; a file that was
// made goes away with the object if nothing was written.
class ResultFile {
 public:
  // Error kCannotCreate or kIo.
  explicit ResultFile(const std::string& path);
  ~ResultFile();

  ResultFile(const ResultFile&) = delete;
  ResultFile& operator=(const ResultFile&) = delete;

  // Once. Error kIo.
  void Write(const std::string& contents);

 private:
  bool made_;
  bool written_ = false;
  File file_;
};

// Both at once.
void WriteResult(const std::string& path, const std::string& contents);

}  // namespace ksa
