// A whole file mapped for reading. When somebody cuts the file short under the map, touching the missing part ends the
// process with the file's name and exit code 74, rather than with an unexplained bus error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace ksa {

class MappedFile {
 public:
  // Error kMissingInput (also when it is not a regular file), kIo. An empty file maps to nothing.
  explicit MappedFile(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();

  [[nodiscard]] const std::byte* data() const { return data_; }

  [[nodiscard]] int64_t size() const { return size_; }

  [[nodiscard]] const std::string& path() const { return path_; }

  // Announces that the file is read from front to back.
  void AdviseSequential() const;
  // Lets the pages of [0, end) go: keeps the resident size small while a large file is streamed.
  void Release(int64_t end) const;

 private:
  const std::byte* data_ = nullptr;
  int64_t size_ = 0;
  std::string path_;
  size_t guard_ = 0;
};

}  // namespace ksa
