#include "parallel/comm/limited_call.h"

#include <atomic>
#include <chrono>
#include <exception>
#include <future>
#include <memory>
#include <thread>

namespace ksa {

bool CallWithin(double limit_seconds, const std::function<void()>& call) noexcept {
  try {
    const auto done = std::make_shared<std::promise<void>>();
    std::future<void> came = done->get_future();
    std::thread caller([call, done] {
      call();
      done->set_value();
    });
    if (came.wait_for(std::chrono::duration<double>(limit_seconds)) == std::future_status::ready) {
      caller.join();
      return true;
    }
    caller.detach();
  } catch (const std::exception&) {  // no thread, no memory
    return false;
  }
  return false;
}

Ended EndWithin(bool good, const EndCalls& calls, const EndLimits& limits) noexcept {
  if (good) {
    // Shared with a thread that may be left behind.
    try {
      const auto went_well = std::make_shared<std::atomic<bool>>(false);
      const bool came = CallWithin(limits.close_seconds, [close = calls.close, went_well] { *went_well = close(); });
      if (came && *went_well) {
        return CallWithin(limits.abort_seconds, calls.forget) ? Ended::kClosed : Ended::kLeft;
      }
    } catch (const std::exception&) {  // no memory: abort needs none of ours
    }
  }
  return CallWithin(limits.abort_seconds, calls.abort) ? Ended::kAborted : Ended::kLeft;
}

}  // namespace ksa
