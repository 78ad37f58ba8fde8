// Tokens of documents in a plain file, so that they can be written again by a process that goes on after a kill.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/files/posix_file.h"

namespace ksa {

class TokenJournal {
 public:
  // Begins an empty one, or with `bytes` >= 0 goes on behind so many bytes of what is there. Error kCannotCreate, kIo;
  // kBadData: fewer bytes are there.
  TokenJournal(const std::string& path, int64_t bytes);

  void Append(std::span<const int32_t> tokens);
  void EndDocument();

  // Everything so far is on the disk; returns its bytes.
  [[nodiscard]] int64_t Sync();

  // Gives all that was there at the beginning: tokens in pieces, and documents' ends. Error kBadData, kIo.
  void Replay(const std::function<void(std::span<const int32_t>)>& tokens, const std::function<void()>& end) const;

 private:
  void Flush();

  std::unique_ptr<File> file_;
  int64_t replayed_ = 0;  // bytes
  int64_t bytes_ = 0;     // of the file
  std::vector<int32_t> buffer_;
};

}  // namespace ksa
