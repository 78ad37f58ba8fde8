// A file of records that only grows: metrics, log, TensorBoard's events.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ksa {

// What cannot be written (a full disk) stays in memory, in order and to the byte, and is tried again with what follows:
// a run does not end because its record waits for room. Not thread-safe.
class AppendFile {
 public:
  enum class Kind : int {
    kLog,      // for people: when too much waits, the oldest half of it is forgotten
    kRecords,  // lines, none of which is lost; a last one without its newline, left by a crash, is ended first
  };

  // Made when missing. `most_pending`: bytes that may wait. A pipe is never waited for. Error kCannotCreate, kIo.
  AppendFile(const std::string& path, Kind kind, int64_t most_pending = int64_t{16} << 20);
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;
  ~AppendFile();  // tries once more

  // In the file when the call returns, unless trouble() says otherwise. Error kIo when too many records wait.
  void Append(std::string_view bytes);

  // What the last attempt to write said; empty: everything is in the file.
  [[nodiscard]] const std::string& trouble() const { return trouble_; }

  // Everything is on the disk when the call returns. Error kIo.
  void Sync();

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  void WritePending();
  [[nodiscard]] bool EndsTorn() const;

  std::string path_;
  Kind kind_;
  int64_t most_pending_;
  int fd_ = -1;
  std::string pending_;
  std::string trouble_;
};

}  // namespace ksa
