#include "data/tools/token_journal.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "data/files/file_error.h"
#include "data/files/paths.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr int32_t kEndOfDocument = -1;
constexpr size_t kBuffer = size_t{1} << 18;  // tokens

}  // namespace

TokenJournal::TokenJournal(const std::string& path, int64_t bytes) {
  if (bytes < 0) {
    file_ = std::make_unique<File>(File::Create(path));
    return;
  }
  const int64_t there = IsFile(path) ? FileBytes(path) : 0;
  if (there < bytes || bytes % static_cast<int64_t>(sizeof(int32_t)) != 0) {
    Fail(
        ExitCode::kBadData, "{}: {} bytes, expected at least {}; remove the folder and begin anew", path, there, bytes);
  }
  if (bytes == 0 && there == 0) {
    file_ = std::make_unique<File>(File::Create(path));
    return;
  }
  file_ = std::make_unique<File>(File::OpenForWriting(path));
  if (ftruncate(file_->fd(), bytes) != 0) {
    FailFile(FileUse::kWrite, errno, path, "what was not whole cannot be cut off");
  }
  replayed_ = bytes;
  bytes_ = bytes;
}

void TokenJournal::Append(std::span<const int32_t> tokens) {
  buffer_.insert(buffer_.end(), tokens.begin(), tokens.end());
  if (buffer_.size() >= kBuffer) {
    Flush();
  }
}

void TokenJournal::EndDocument() {
  buffer_.push_back(kEndOfDocument);
}

void TokenJournal::Flush() {
  const auto size = static_cast<int64_t>(buffer_.size() * sizeof(int32_t));
  file_->WriteAt(bytes_, buffer_.data(), size);
  bytes_ += size;
  buffer_.clear();
}

int64_t TokenJournal::Sync() {
  Flush();
  file_->Sync();
  return bytes_;
}

void TokenJournal::Replay(const std::function<void(std::span<const int32_t>)>& tokens,
                          const std::function<void()>& end) const {
  const File file = File::OpenForReading(file_->path());
  std::vector<int32_t> values;
  for (int64_t at = 0; at < replayed_;) {
    const int64_t size = std::min(replayed_ - at, static_cast<int64_t>(kBuffer * sizeof(int32_t)));
    values.resize(static_cast<size_t>(size) / sizeof(int32_t));
    file.ReadAt(at, values.data(), size);
    at += size;
    for (auto begin = values.begin(); begin != values.end();) {
      const auto stop = std::find(begin, values.end(), kEndOfDocument);
      if (stop != begin) {
        tokens(std::span(&*begin, static_cast<size_t>(stop - begin)));
      }
      begin = stop;
      if (begin != values.end()) {
        end();
        ++begin;
      }
    }
  }
}

}  // namespace ksa
