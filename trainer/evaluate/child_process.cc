#include "trainer/evaluate/child_process.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <system_error>
#include <thread>

#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr int kCannotExecute = 127;  // what shells say

// A process that ignores SIGCHLD, which children inherit, has no children to wait for: the system forgets how they
// ended.
class WaitableChildren {
 public:
  WaitableChildren() {
    struct sigaction handler {};

    handler.sa_handler = SIG_DFL;
    sigemptyset(&handler.sa_mask);
    sigaction(SIGCHLD, &handler, &before_);
  }

  WaitableChildren(const WaitableChildren&) = delete;
  WaitableChildren& operator=(const WaitableChildren&) = delete;

  ~WaitableChildren() { sigaction(SIGCHLD, &before_, nullptr); }

 private:
  struct sigaction before_ {};
};

// Whether the child has ended, and then its status.
bool HasEnded(pid_t child, const std::string& name, int& status) {
  const pid_t ended = waitpid(child, &status, WNOHANG);
  if (ended < 0 && errno != EINTR) {
    Fail(ExitCode::kInternal,
         "how {} (process {}) ended is not known: {}",
         name,
         child,
         std::system_category().message(errno));
  }
  return ended == child;
}

[[noreturn]] void Execute(char** arguments, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() == parent) {  // else the parent died before the line above
    execvp(arguments[0], arguments);
  }
  _exit(kCannotExecute);
}

}  // namespace

int RunChild(const std::vector<std::string>& arguments, const StopSignal& stop) {
  std::vector<std::string> copies = arguments;
  std::vector<char*> pointers;
  for (std::string& argument : copies) {
    pointers.push_back(argument.data());
  }
  pointers.push_back(nullptr);
  std::fflush(nullptr);
  const WaitableChildren waitable;
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) {
    Fail(ExitCode::kInternal, "{} cannot be started: {}", arguments.front(), std::system_category().message(errno));
  }
  if (child == 0) {
    Execute(pointers.data(), parent);
  }
  bool asked = false;
  int status = 0;
  while (!HasEnded(child, arguments.front(), status)) {
    if (!asked && stop.Requested()) {
      kill(child, SIGUSR1);
      asked = true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace ksa
