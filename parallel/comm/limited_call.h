// Calls of a library that may never come back: made in a thread of their own, which is waited for no longer than a
// limit.
#pragma once

#include <functional>

namespace ksa {

// Whether `call` came back within the limit. One that did not goes on in its thread, which is left alone: what it uses
// must stay as long as the process. Also false when there is no thread to be had. `call` does not throw.
[[nodiscard]] bool CallWithin(double limit_seconds, const std::function<void()>& call) noexcept;

// How the hold of a library on a group of ranks ends.
enum class Ended : int {
  kClosed,   // in good order, together with the other ranks
  kAborted,  // what was still queued has been given up
  kLeft,     // neither came back in time: the library still has what it had, and the device may be busy for ever
};

struct EndCalls {
  std::function<bool()> close;   // waits for the other ranks; whether it went well
  std::function<void()> forget;  // after that
  std::function<void()> abort;   // waits for nobody, unless the library has a fault
};

struct EndLimits {
  // For the last rank to come, which may have something to write first. It is no loss to give up then, for all that was
  // queued has been waited for, but the others may wait as long.
  double close_seconds = 60.0;
  // Only a fault of the library or a hanging device takes longer.
  double abort_seconds = 20.0;
};

// Ends it, and never waits longer than both limits together, so that destructors may call it while an error is on its
// way. `good`: nothing has failed.
Ended EndWithin(bool good, const EndCalls& calls, const EndLimits& limits = {}) noexcept;

}  // namespace ksa
