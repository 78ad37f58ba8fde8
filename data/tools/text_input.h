// A text file from its beginning to its end, plain or compressed (gzip, zstd; its first bytes tell).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "data/files/posix_file.h"

namespace ksa {

// Takes compressed bytes and gives text.
class TextDecoder {
 public:
  TextDecoder() = default;
  TextDecoder(const TextDecoder&) = delete;
  TextDecoder& operator=(const TextDecoder&) = delete;
  virtual ~TextDecoder() = default;

  struct Step {
    size_t taken = 0;    // bytes of the input
    size_t given = 0;    // bytes of text
    bool whole = false;  // the input may end here: nothing is left that belongs to what was taken
    std::string error;   // what is wrong with the input; empty: nothing
  };

  virtual Step Decode(const char* in, size_t in_bytes, char* out, size_t out_bytes) = 0;
};

class TextInput {
 public:
  // Error kMissingInput, kIo; kBadData: compressed, and not what it should be.
  explicit TextInput(const std::string& path);

  // Appends the next bytes of text, fewer than `bytes` only at its end. Memory is bounded. Errors as above.
  void Read(std::string& text, size_t bytes);

  // Passes over the next bytes of text; fewer only at its end. Plain text is not read. Errors as above.
  void Skip(int64_t bytes);

  // Whether Read has given all. Errors as above.
  [[nodiscard]] bool AtEnd();

  [[nodiscard]] bool compressed() const { return decoder_ != nullptr; }

  // How many bytes of the file the text so far came from.
  [[nodiscard]] int64_t position() const { return position_ - static_cast<int64_t>(in_.size() - in_at_); }

 private:
  bool Refill();
  void DecodeAhead();

  File file_;
  int64_t file_bytes_ = 0;
  int64_t position_ = 0;  // behind what was read of the file
  std::unique_ptr<TextDecoder> decoder_;
  bool whole_ = true;
  std::string in_;  // compressed bytes, the first in_at_ of them decoded
  size_t in_at_ = 0;
  std::string ahead_;  // text that was decoded but not read
  size_t ahead_at_ = 0;
};

}  // namespace ksa
