#include "trainer/run/stop_signal.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/core/error.h"

namespace ksa {
namespace {

// The one thing a signal handler can reach. 0: nothing happened.
std::atomic<int> received_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "a handler may not wait");

void Receive(int number) {
  received_signal.store(number);
}

}  // namespace

struct StopSignal::Saved {
  struct sigaction user1 {};

  struct sigaction terminate {};
};

StopSignal::StopSignal(std::string stop_file) : stop_file_(std::move(stop_file)), saved_(std::make_unique<Saved>()) {
  struct sigaction action {};

  action.sa_handler = Receive;
  action.sa_flags = SA_RESTART;  // a request must not fail the read or write it interrupts
  static_cast<void>(sigemptyset(&action.sa_mask));
  if (sigaction(SIGUSR1, &action, &saved_->user1) != 0 || sigaction(SIGTERM, &action, &saved_->terminate) != 0) {
    Fail(ExitCode::kInternal, "signal handlers cannot be installed: {}", std::strerror(errno));
  }
  if (saved_->user1.sa_handler != Receive) {  // the first: what an earlier run was asked does not count
    received_signal.store(0);
  }
}

StopSignal::~StopSignal() {
  static_cast<void>(sigaction(SIGUSR1, &saved_->user1, nullptr));
  static_cast<void>(sigaction(SIGTERM, &saved_->terminate, nullptr));
}

bool StopSignal::Requested() const {
  return received_signal.load() != 0 || access(stop_file_.c_str(), F_OK) == 0;
}

std::string StopSignal::Reason() const {
  switch (received_signal.load()) {
    case SIGUSR1:
      return "SIGUSR1";
    case SIGTERM:
      return "SIGTERM";
    default:
      return access(stop_file_.c_str(), F_OK) == 0 ? "the file " + stop_file_ : "";
  }
}

void StopSignal::Consume() const {
  received_signal.store(0);
  if (unlink(stop_file_.c_str()) != 0 && errno != ENOENT) {
    Fail(ExitCode::kIo, "{}: cannot be removed, and would stop the next start: {}", stop_file_, std::strerror(errno));
  }
}

}  // namespace ksa
