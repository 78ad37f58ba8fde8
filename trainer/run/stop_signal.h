// Requests to stop: signals, a file STOP, a limit of time.
#pragma once

#include <string>

namespace ksa {

// Who wants a run to end. Of several the largest counts: a person's run is not started again by a scheduler.
enum class StopCause : int {
  kNone = 0,
  kScheduler = 1,  // SIGUSR1, SIGTERM, the limit of time: start it again
  kPerson = 2,     // SIGINT, SIGHUP, the file STOP: it is not to be started again by itself
};

// From now on until the process ends, SIGUSR1, SIGTERM, SIGINT and SIGHUP are remembered and end nothing; a second
// SIGINT ends the process at once. SIGINT and SIGHUP stay ignored where they were (nohup). A reader of stdout that goes
// away is an error of writing (SIGPIPE is ignored). Calling it again takes back signals that a library took meanwhile
// (libraries that MPI loads were seen to do so).
void CatchStopSignals();

// The signals end the process again, and at once where one has come: for what nobody needs to save.
void ObeyStopSignals();

// What was asked for. Ranks see requests at different times: agree (Communicator::Max) before acting on one.
class StopSignal {
 public:
  // Catches the signals, if nobody did. `stop_file`: asks for a stop as long as it exists; empty: none.
  explicit StopSignal(std::string stop_file = "");

  // Looks for the file, and whether the signals are still caught, each time: once a step is cheap.
  [[nodiscard]] StopCause Cause() const;

  [[nodiscard]] bool Requested() const { return Cause() != StopCause::kNone; }

  // "SIGUSR1", "the file <folder>/STOP", … or empty; of Cause().
  [[nodiscard]] std::string Reason() const;

  // The request was honoured: forgets it and removes the file, so that the next start goes on. Rank 0 only. Error(kIo)
  // when the file cannot be removed.
  void Consume() const;

 private:
  [[nodiscard]] bool FileIsThere() const;

  std::string stop_file_;
};

}  // namespace ksa
