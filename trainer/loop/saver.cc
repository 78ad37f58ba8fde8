#include "trainer/loop/saver.h"

#include <algorithm>

#include <fmt/core.h>

namespace ksa {
namespace {

constexpr int32_t kMostDoublings = 6;

bool IsOfWriting(const Error& error) {
  return error.code() == ExitCode::kIo || error.code() == ExitCode::kCannotCreate;
}

}  // namespace

int64_t SaveRetries::wait() const {
  return int64_t{1} << std::min(std::max(failures_ - 1, 0), kMostDoublings);
}

bool SaveRetries::IsTime(int64_t update, bool wanted) const {
  return failures_ == 0 ? wanted : update >= next_;
}

bool SaveRetries::Failed(int64_t update) {
  ++failures_;
  next_ = update + wait();
  return failures_ <= retries_;
}

void SaveRetries::Succeeded() {
  failures_ = 0;
}

bool CheckpointSaver::After(int64_t update, bool wanted, bool ending) {
  if (!ending) {
    return retries_.IsTime(update, wanted) && Try(update, false);
  }
  while (!Try(update, true)) {
    hooks_.sleep(retries_.wait());
  }
  return true;
}

bool CheckpointSaver::Try(int64_t update, bool ending) {
  try {
    const std::string path = hooks_.save(update);
    retries_.Succeeded();
    hooks_.info("checkpoint " + path);
    return true;
  } catch (const Error& error) {
    if (!IsOfWriting(error) || !retries_.Failed(update)) {
      throw;
    }
    hooks_.warn(
        fmt::format("the checkpoint of update {} could not be saved: {}; try {} follows in {} {}{}; older "
                    "checkpoints stand",
                    update,
                    error.what(),
                    retries_.failures() + 1,
                    retries_.wait(),
                    ending ? "second" : "update",
                    retries_.wait() > 1 ? "s" : ""));
    return false;
  }
}

}  // namespace ksa
