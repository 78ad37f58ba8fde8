// Files by descriptor: every return is checked, every error names the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace ksa {

// Owns a file descriptor. Errors of reading and writing are kIo (a full disk included).
class File {
 public:
  // A regular file; a pipe or a device, which may make a reader wait for ever, is refused. Error kMissingInput when
  // there is no such file, kIo when it cannot be read.
  [[nodiscard]] static File OpenForReading(const std::string& path);
  // An existing file. Error kMissingInput, kIo.
  [[nodiscard]] static File OpenForWriting(const std::string& path);
  // Error kCannotCreate; kIo when the disk is full.
  [[nodiscard]] static File Create(const std::string& path);
  // The same, but what is in the file stays until Truncate.
  [[nodiscard]] static File CreateOrKeep(const std::string& path);
  // A file without a name in `folder`, which vanishes when it is closed. Error kCannotCreate, kIo.
  [[nodiscard]] static File Temporary(const std::string& folder);

  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  [[nodiscard]] int fd() const { return fd_; }

  [[nodiscard]] const std::string& path() const { return path_; }

  [[nodiscard]] int64_t Size() const;
  void Write(const void* data, int64_t bytes);                    // at the current position
  void WriteAt(int64_t offset, const void* data, int64_t bytes);  // leaves the position
  void ReadAt(int64_t offset, void* data, int64_t bytes) const;   // all of them
  // Leaves nothing in a regular file; other files, which hold nothing, stay as they are.
  void Truncate();
  void Sync();
  // After Sync(): asks the system to forget what it keeps of the file in memory, so that the next one who reads it
  // reads the disk. File systems without a disk keep it.
  void DropCache() const;
  void Close();  // reports errors, unlike the destructor

 private:
  File(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}

  int fd_ = -1;
  std::string path_;
};

// Makes renames and new files in a folder durable, where its file system can (some answer EINVAL: they have nothing to
// flush). Error kIo.
void SyncFolder(const std::string& path);

// rename(2). Error kCannotCreate, kIo.
void Rename(const std::string& from, const std::string& to);

// Writes a small file whole and flushes it; the next reader reads the disk. Error kCannotCreate, kIo.
void WriteDurably(const std::string& path, const std::string& contents);

// Writes a small file whole: under a temporary name, flushed, renamed. Error kCannotCreate or kIo.
void WriteFileAtomically(const std::string& path, const std::string& contents);

// The whole of a small file. Error kMissingInput, kIo; kBadData when it is larger than `most` bytes.
[[nodiscard]] std::string ReadSmallFile(const std::string& path, int64_t most = int64_t{1} << 28);

}  // namespace ksa
