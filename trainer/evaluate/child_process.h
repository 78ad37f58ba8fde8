// Programs that run beside this one.
#pragma once

#include <sys/types.h>

#include <csignal>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "trainer/run/stop_signal.h"

namespace ksa {

struct ChildCommand {
  std::vector<std::string> arguments;  // the first is the program, looked for in PATH when it has no '/'
  std::vector<std::pair<std::string, std::string>> environment;  // set in what this process's environment is
  std::string output;  // a file to which its stdout and stderr are appended; empty: this process's own
};

// While one is there, how children end can be known: a process that ignores SIGCHLD, which children inherit, has none
// to wait for. Every ChildProcess lives inside the life of one.
class WaitableChildren {
 public:
  WaitableChildren();
  WaitableChildren(const WaitableChildren&) = delete;
  WaitableChildren& operator=(const WaitableChildren&) = delete;
  ~WaitableChildren();

 private:
  struct sigaction before_ {};
};

// One that was started. It gets SIGTERM when this process dies, and is ended by the destructor.
class ChildProcess {
 public:
  // Error(kInternal) when it cannot be started, kCannotCreate or kIo when the output cannot be opened.
  explicit ChildProcess(const ChildCommand& command);
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess();

  // Its exit code, or 128 + n when signal n ended it; none while it runs. Error(kInternal) when nobody can say.
  [[nodiscard]] std::optional<int> Ended();

  // SIGUSR1, once: it may save what it has and end.
  void AskToStop();

 private:
  std::string name_;
  pid_t pid_ = -1;
  bool asked_ = false;
  std::optional<int> code_;
};

// Starts `arguments` with this process's input and output, and waits. Once `stop` has a request, the child is asked to
// stop. Returns its code; errors as above.
[[nodiscard]] int RunChild(const std::vector<std::string>& arguments, const StopSignal& stop);

}  // namespace ksa
