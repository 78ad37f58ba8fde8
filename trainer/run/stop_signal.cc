#include "trainer/run/stop_signal.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/core/error.h"

namespace ksa {
namespace {

// What a signal handler can reach: the last signal of each cause. 0: none came.
std::atomic<int> scheduler_signal{0};
std::atomic<int> person_signal{0};
std::atomic<bool> interrupted{false};  // by SIGINT, ever
std::atomic<uint64_t> ignored{0};      // what was found ignored (nohup): a bit a signal
std::atomic<bool> catching{false};
static_assert(std::atomic<int>::is_always_lock_free, "a handler may not wait");

void Receive(int number) {
  if (number == SIGUSR1 || number == SIGTERM) {
    scheduler_signal.store(number);
    return;
  }
  if (number == SIGINT && interrupted.exchange(true)) {
    static_cast<void>(signal(SIGINT, SIG_DFL));
    static_cast<void>(raise(SIGINT));  // once this handler has returned
  }
  person_signal.store(number);
}

void Catch(int number) {
  struct sigaction action {};

  struct sigaction before {};

  const uint64_t bit = uint64_t{1} << static_cast<unsigned>(number);
  const bool asked = sigaction(number, nullptr, &before) == 0;
  if (asked && (number == SIGINT || number == SIGHUP) && before.sa_handler == SIG_IGN) {
    ignored.fetch_or(bit);
  }
  action.sa_handler = (ignored.load() & bit) != 0 ? SIG_IGN : Receive;
  action.sa_flags = SA_RESTART;  // a request must not fail the read or write it interrupts
  static_cast<void>(sigemptyset(&action.sa_mask));
  if (!asked || (before.sa_handler != action.sa_handler && sigaction(number, &action, nullptr) != 0)) {
    Fail(ExitCode::kInternal, "a signal handler cannot be installed: {}", std::strerror(errno));
  }
}

const char* NameOfSignal(int number) {
  switch (number) {
    case SIGUSR1:
      return "SIGUSR1";
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    default:
      return "SIGHUP";
  }
}

}  // namespace

void CatchStopSignals() {
  for (const int number : {SIGUSR1, SIGTERM, SIGINT, SIGHUP}) {
    Catch(number);
  }
  static_cast<void>(signal(SIGPIPE, SIG_IGN));
  catching.store(true);
}

void ObeyStopSignals() {
  catching.store(false);
  for (const int number : {SIGUSR1, SIGTERM, SIGINT, SIGHUP}) {
    struct sigaction current {};

    if (sigaction(number, nullptr, &current) == 0 && current.sa_handler == Receive) {
      static_cast<void>(signal(number, SIG_DFL));
    }
  }
  for (const int number : {person_signal.load(), scheduler_signal.load()}) {
    if (number != 0) {
      static_cast<void>(raise(number));
    }
  }
}

StopSignal::StopSignal(std::string stop_file) : stop_file_(std::move(stop_file)) {
  CatchStopSignals();
}

bool StopSignal::FileIsThere() const {
  return !stop_file_.empty() && access(stop_file_.c_str(), F_OK) == 0;
}

StopCause StopSignal::Cause() const {
  if (catching.load()) {
    CatchStopSignals();
  }
  if (person_signal.load() != 0 || FileIsThere()) {
    return StopCause::kPerson;
  }
  return scheduler_signal.load() != 0 ? StopCause::kScheduler : StopCause::kNone;
}

std::string StopSignal::Reason() const {
  if (const int number = person_signal.load(); number != 0) {
    return NameOfSignal(number);
  }
  if (FileIsThere()) {
    return "the file " + stop_file_;
  }
  const int number = scheduler_signal.load();
  return number != 0 ? NameOfSignal(number) : "";
}

void StopSignal::Consume() const {
  scheduler_signal.store(0);
  person_signal.store(0);
  if (!stop_file_.empty() && unlink(stop_file_.c_str()) != 0 && errno != ENOENT && errno != ENOTDIR) {
    Fail(ExitCode::kIo, "{}: cannot be removed, and would stop the next start: {}", stop_file_, std::strerror(errno));
  }
}

}  // namespace ksa
