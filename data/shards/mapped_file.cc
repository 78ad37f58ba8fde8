#include "data/shards/mapped_file.h"

#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "data/files/file_error.h"
#include "data/files/posix_file.h"
#include "data/shards/bus_guard.h"
#include "kernels/core/error.h"

namespace ksa {

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const File file = File::OpenForReading(path);
  size_ = file.Size();
  if (size_ == 0) {
    return;
  }
  void* data = mmap(nullptr, static_cast<size_t>(size_), PROT_READ, MAP_SHARED, file.fd(), 0);
  if (data == MAP_FAILED) {
    FailFile(FileUse::kWrite, errno, path, fmt::format("cannot map {} bytes", size_));
  }
  data_ = static_cast<const std::byte*>(data);
  guard_ = GuardMapping(data, static_cast<size_t>(size_), path);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      path_(std::move(other.path_)),
      guard_(other.guard_) {}

MappedFile::~MappedFile() {
  if (data_ != nullptr) {
    UnguardMapping(guard_);
    static_cast<void>(munmap(const_cast<std::byte*>(data_), static_cast<size_t>(size_)));
  }
}

void MappedFile::AdviseSequential() const {
  if (data_ != nullptr) {
    static_cast<void>(madvise(const_cast<std::byte*>(data_), static_cast<size_t>(size_), MADV_SEQUENTIAL));
  }
}

void MappedFile::Release(int64_t end) const {
  constexpr int64_t kPage = 4096;
  const int64_t whole = end / kPage * kPage;
  if (data_ != nullptr && whole > 0) {
    static_cast<void>(madvise(const_cast<std::byte*>(data_), static_cast<size_t>(whole), MADV_DONTNEED));
  }
}

}  // namespace ksa
