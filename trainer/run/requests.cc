#include "trainer/run/requests.h"

#include <cstdint>

namespace ksa {

Requests::Requests(Communicator& world, const RunFolder* folder, const WallLimit& wall)
    : world_(world),
      folder_(folder),
      stop_(folder == nullptr || world.rank() != 0 ? "" : folder->paths().Stop()),
      wall_(wall) {}

Wish Requests::Agree() const {
  const bool leads = world_.rank() == 0;
  StopCause own = stop_.Cause();
  std::string reason = stop_.Reason();
  if (leads && own == StopCause::kNone && wall_.Reached()) {
    own = StopCause::kScheduler;
    reason = wall_.Reason();
  }
  const bool save = leads && folder_ != nullptr && folder_->SaveRequested();
  // A stop saves as well: that its number hides the wish to save loses nothing.
  const int64_t agreed = world_.Max(2 * static_cast<int64_t>(own) + (save ? 1 : 0));
  const auto stop = static_cast<StopCause>(agreed / 2);
  return {.stop = stop,
          .save = agreed % 2 != 0,
          .reason = stop == own && !reason.empty() ? reason : "a request to another rank"};
}

}  // namespace ksa
