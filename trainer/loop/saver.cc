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

bool CheckpointSaver::After(int64_t update, bool wanted, bool ending, bool over) {
  bool saved = false;
  if (pending_ && (over || wanted || ending)) {
    saved = Advance(update, ending, wanted || ending);
  }
  if (ending) {
    while (!Try(update, update, true, [&] { return hooks_.save(update); })) {
      hooks_.sleep(retries_.wait());
    }
    return true;
  }
  if (pending_ || !retries_.IsTime(update, wanted)) {
    return saved;
  }
  if (hooks_.begin) {
    hooks_.begin(update);
    pending_ = update;
    return saved;
  }
  return Try(update, update, false, [&] { return hooks_.save(update); });
}

void CheckpointSaver::Settle() {
  if (!pending_) {
    return;
  }
  try {
    static_cast<void>(Advance(*pending_, true, true));
  } catch (const Error& error) {
    hooks_.warn(fmt::format("the last checkpoint could not be saved: {}; older checkpoints stand", error.what()));
  }
}

bool CheckpointSaver::Advance(int64_t update, bool ending, bool wait) {
  const int64_t step = *pending_;
  bool open = false;
  const bool saved = Try(step, update, ending, [&] {
    std::optional<std::string> path = hooks_.advance(wait);
    open = !path.has_value();
    return path;
  });
  if (!open) {
    pending_.reset();
  }
  return saved;
}

bool CheckpointSaver::Try(int64_t step,
                          int64_t update,
                          bool ending,
                          const std::function<std::optional<std::string>()>& save) {
  try {
    const std::optional<std::string> path = save();
    if (!path) {
      return false;
    }
    retries_.Succeeded();
    hooks_.info("checkpoint " + *path);
    return true;
  } catch (const Error& error) {
    if (!IsOfWriting(error) || !retries_.Failed(update)) {
      pending_.reset();
      throw;
    }
    hooks_.warn(
        fmt::format("the checkpoint of update {} could not be saved: {}; try {} follows in {} {}{}; older "
                    "checkpoints stand",
                    step,
                    error.what(),
                    retries_.failures() + 1,
                    retries_.wait(),
                    ending ? "second" : "update",
                    retries_.wait() > 1 ? "s" : ""));
    return false;
  }
}

}  // namespace ksa
