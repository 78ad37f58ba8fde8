#include "trainer/evaluate/child_process.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr int kCannotExecute = 127;  // what shells say

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
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) {
    Fail(ExitCode::kInternal, "{} cannot be started: {}", arguments.front(), std::strerror(errno));
  }
  if (child == 0) {
    Execute(pointers.data(), parent);
  }
  bool asked = false;
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (!asked && stop.Requested()) {
      kill(child, SIGUSR1);
      asked = true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace ksa
