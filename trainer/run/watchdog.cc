#include "trainer/run/watchdog.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <utility>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "kernels/core/error.h"
#include "kernels/core/threads.h"
#include "trainer/observe/log_line.h"
#include "trainer/observe/logger.h"

namespace ksa {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kDefaultSeconds = 600.0;
constexpr double kSlowFactor = 3.0;
constexpr std::chrono::milliseconds kFilesMayTake(2000);  // to say where other ranks stand
constexpr std::chrono::milliseconds kWordsMayTake(5000);  // the report itself, to wherever standard error goes

bool IsSlow(Phase phase) {
  return phase == Phase::kStart || phase == Phase::kSetUp || phase == Phase::kLoad || phase == Phase::kCheckpoint ||
         phase == Phase::kShutDown;
}

// Straight to the descriptor: another thread may hang while it holds the lock of a stdio stream. And not from here: a
// pipe that nobody reads, or a file where nothing answers, takes for ever.
[[noreturn]] void EndProcess(const std::string& report, const std::string& log) {
  const auto write_line = [line = fmt::format("ksa: {}\n", report), log, record = "error: " + report] {
    static_cast<void>(!write(STDERR_FILENO, line.data(), line.size()));
    if (!log.empty()) {
      AppendLastWords(log, record);
    }
  };
  try {
    SideThread writer;
    writer.Add(write_line);
    static_cast<void>(writer.Finish(kWordsMayTake));
  } catch (const Error&) {  // no thread
    write_line();
  }
  _exit(static_cast<int>(ExitCode::kPeerLost));
}

// Signals are for the main thread.
void BlockSignals() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

}  // namespace

// Asks the question over and over in a thread of its own: NCCL may hang in the answer.
class Watchdog::Poll {
 public:
  explicit Poll(std::function<void()> question) : state_(std::make_shared<State>()) {
    state_->question = std::move(question);
  }

  // The error that came since; starts the next question when the last one is answered.
  [[nodiscard]] std::string Ask() {
    if (!thread_.Finish(std::chrono::milliseconds(0))) {
      return {};
    }
    if (!state_->error.empty()) {
      return state_->error;
    }
    thread_.Add([state = state_] {
      try {
        state->question();
      } catch (const std::exception& error) {
        state->error = error.what();
      }
    });
    return {};
  }

 private:
  struct State {
    std::function<void()> question;
    std::string error;  // the thread's until it is done
  };

  std::shared_ptr<State> state_;
  SideThread thread_;
};

const char* NameOf(Phase phase) {
  switch (phase) {
    case Phase::kStart:
      return "start of MPI";
    case Phase::kSetUp:
      return "set-up";
    case Phase::kLoad:
      return "load";
    case Phase::kData:
      return "wait for data";
    case Phase::kGradients:
      return "forward and backward";
    case Phase::kUpdate:
      return "sum of gradients and update";
    case Phase::kEvaluation:
      return "evaluation";
    case Phase::kCheckpoint:
      return "checkpoint";
    case Phase::kMeasure:
      return "measurement";
    case Phase::kShutDown:
      return "shutdown";
  }
  return "unknown";
}

double WatchdogSeconds() {
  const char* text = std::getenv("KSA_WATCHDOG_SECONDS");
  if (text == nullptr || *text == '\0') {
    return kDefaultSeconds;
  }
  char* end = nullptr;
  const double seconds = std::strtod(text, &end);
  if (*end != '\0' || !(seconds >= 0.0 && seconds <= 1e9)) {
    Fail(ExitCode::kConfig, "KSA_WATCHDOG_SECONDS: expected seconds, or 0 for no watchdog, got '{}'", text);
  }
  return seconds;
}

Watchdog::Watchdog(double seconds, OnHang on_hang) : seconds_(seconds), on_hang_(std::move(on_hang)) {
  if (seconds_ > 0.0) {
    thread_ = StartThread("watches for hangs", [this] { Watch(); });
  }
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  if (thread_.joinable()) {
    thread_.join();
  }
}

void Watchdog::SetRank(int rank, const std::string& host) {
  const std::lock_guard lock(mutex_);
  rank_ = rank;
  who_ = fmt::format("rank {} on host {}", rank, host);
}

void Watchdog::SetStates(const std::string& folder, const std::vector<std::string>& hosts) {
  int rank = 0;
  {
    const std::lock_guard lock(mutex_);
    rank = rank_;
  }
  auto states = std::make_shared<RankStates>(folder, rank, hosts);
  const std::lock_guard lock(mutex_);
  states_.swap(states);  // those that were there before end after the lock
}

void Watchdog::SetLog(const std::string& path) {
  const std::lock_guard lock(mutex_);
  log_ = path;
}

void Watchdog::SetPoll(std::function<void()> poll) {
  auto made = std::make_shared<Poll>(std::move(poll));
  const std::lock_guard lock(mutex_);
  poll_ = std::move(made);
}

void Watchdog::SetDevice(bool gpu) {
  const std::lock_guard lock(mutex_);
  gpu_ = gpu;
}

void Watchdog::Enter(Phase phase) {
  const std::lock_guard lock(mutex_);
  phase_ = phase;
  ++marks_;
}

void Watchdog::BeginUpdate(int64_t update) {
  const std::lock_guard lock(mutex_);
  update_ = update;
  phase_ = Phase::kData;
  ++marks_;
}

void Watchdog::Begin(const char* group, CollectiveKind kind, const char* op, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  Call& call = last_[static_cast<size_t>(calls_) % kCallsKept];
  call.group = group;
  call.kind = kind;
  call.op = op;
  call.bytes = bytes;
  ++calls_;
  in_call_ = true;
  ++marks_;
}

void Watchdog::End() {
  const std::lock_guard lock(mutex_);
  in_call_ = false;
  ++marks_;
}

std::string Watchdog::Describe(const Call& call) {
  return fmt::format("{} '{}' of group '{}', {}", NameOf(call.kind), call.op, call.group, FormatBytes(call.bytes));
}

std::string Watchdog::Where() const {
  std::string text = update_ > 0 ? fmt::format("update {}, {}", update_, NameOf(phase_)) : NameOf(phase_);
  if (in_call_) {
    return fmt::format("{}, in {}", text, Describe(last_[static_cast<size_t>(calls_ - 1) % kCallsKept]));
  }
  return gpu_ && !IsSlow(phase_) ? text + ", waiting for the device" : text;
}

// The newest first.
std::string Watchdog::LastCalls() const {
  std::vector<std::string> calls;
  for (int64_t n = calls_ - 1; n >= 0 && calls_ - n <= static_cast<int64_t>(kCallsKept); --n) {
    calls.push_back(Describe(last_[static_cast<size_t>(n) % kCallsKept]));
  }
  return calls.empty() ? "none" : fmt::format("{}", fmt::join(calls, " < "));
}

// Waits for `seconds`, or until it is told to stop.
Watchdog::Sight Watchdog::Look(double seconds) {
  std::unique_lock lock(mutex_);
  stop_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return stopping_; });
  return {.stopping = stopping_,
          .marks = marks_ + operations_.load(std::memory_order_relaxed),
          .limit = IsSlow(phase_) ? kSlowFactor * seconds_ : seconds_,
          .where = Where(),
          .states = states_,
          .poll = poll_,
          .log = log_};
}

void Watchdog::Watch() {
  BlockSignals();
  const double tick = std::clamp(seconds_ / 20.0, 0.01, 1.0);
  double idle = 0.0;
  int64_t seen = 0;
  std::shared_ptr<RankStates> told;
  while (true) {
    const Clock::time_point before = Clock::now();
    const Sight sight = Look(tick);
    if (sight.stopping) {
      return;
    }
    // A sleep far longer than asked for means that the whole process was stopped, or its machine.
    idle += std::min(2.0 * tick, std::chrono::duration<double>(Clock::now() - before).count());
    if (sight.marks != seen) {
      seen = sight.marks;
      idle = 0.0;
      if (told != nullptr) {
        std::exchange(told, nullptr)->Withdraw();
      }
    }
    if (const std::string lost = sight.poll == nullptr ? "" : sight.poll->Ask(); !lost.empty()) {
      Report(lost, sight);
      return;
    }
    if (idle > sight.limit) {
      Report(fmt::format("no progress for {:.1f} s (KSA_WATCHDOG_SECONDS)", idle), sight);
      return;
    }
    if (told == nullptr && sight.states != nullptr && idle > sight.limit / 2.0) {
      told = sight.states;
      told->Tell(sight.where);
    }
  }
}

void Watchdog::Report(const std::string& what, const Sight& sight) const {
  std::string report;
  {
    const std::lock_guard lock(mutex_);
    report = fmt::format("watchdog: {}: {}: {}; collectives, newest first: {}", who_, sight.where, what, LastCalls());
  }
  const std::string others = sight.states == nullptr ? "" : sight.states->Others(sight.where, kFilesMayTake);
  if (!others.empty()) {
    report += "; " + others;
  }
  if (on_hang_) {
    on_hang_(report);
    return;
  }
  EndProcess(report, sight.log);
}

}  // namespace ksa
