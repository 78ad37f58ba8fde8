#include "trainer/evaluate/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <string_view>
#include <system_error>
#include <thread>

#include "data/files/file_error.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr int kCannotExecute = 127;  // what shells say

// Texts as exec takes them; they have to outlive the pointers.
std::vector<char*> PointersOf(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) {
    pointers.push_back(text.data());
  }
  pointers.push_back(nullptr);
  return pointers;
}

// This process's environment with the command's values in place of its own.
std::vector<std::string> EnvironmentOf(const ChildCommand& command) {
  std::vector<std::string> texts;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    bool replaced = false;
    for (const auto& [name, value] : command.environment) {
      replaced = replaced || text.starts_with(name + "=");
    }
    if (!replaced) {
      texts.emplace_back(text);
    }
  }
  for (const auto& [name, value] : command.environment) {
    texts.push_back(name + "=" + value);
  }
  return texts;
}

int OpenOutput(const std::string& path) {
  if (path.empty()) {
    return -1;
  }
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0) {
    FailFile(FileUse::kCreate, errno, path, "cannot be opened");
  }
  return fd;
}

// No signal arrives while one is there.
class SignalsHeld {
 public:
  SignalsHeld() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }

  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;

  ~SignalsHeld() { Release(); }

  void Release() const { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_{};
};

// As exec does, but at once: this process's handlers would only remember a signal, in a child that is about to forget
// it.
void DropHandlers() {
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) {
    struct sigaction action {};

    if (sigaction(number, nullptr, &action) == 0 && action.sa_handler != SIG_IGN) {
      action.sa_handler = SIG_DFL;
      sigaction(number, &action, nullptr);
    }
  }
}

// In the child, where only what is safe after fork may be called.
[[noreturn]] void Execute(char** arguments, char** environment, int output, pid_t parent, const SignalsHeld& held) {
  DropHandlers();
  held.Release();
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (output >= 0 && (dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0)) {
    _exit(kCannotExecute);
  }
  if (getppid() == parent) {  // else the parent died before the first line
    execvpe(arguments[0], arguments, environment);
  }
  _exit(kCannotExecute);
}

}  // namespace

WaitableChildren::WaitableChildren() {
  struct sigaction handler {};

  handler.sa_handler = SIG_DFL;
  sigemptyset(&handler.sa_mask);
  sigaction(SIGCHLD, &handler, &before_);
}

WaitableChildren::~WaitableChildren() {
  sigaction(SIGCHLD, &before_, nullptr);
}

ChildProcess::ChildProcess(const ChildCommand& command) : name_(command.arguments.front()) {
  std::vector<std::string> arguments = command.arguments;
  std::vector<std::string> environment = EnvironmentOf(command);
  const std::vector<char*> argument_pointers = PointersOf(arguments);
  const std::vector<char*> environment_pointers = PointersOf(environment);
  const int output = OpenOutput(command.output);
  std::fflush(nullptr);
  const pid_t parent = getpid();
  int error = 0;
  {
    const SignalsHeld held;
    pid_ = fork();
    error = errno;
    if (pid_ == 0) {
      Execute(const_cast<char**>(argument_pointers.data()),
              const_cast<char**>(environment_pointers.data()),
              output,
              parent,
              held);
    }
  }
  if (output >= 0) {
    close(output);
  }
  if (pid_ < 0) {
    Fail(ExitCode::kInternal, "{} cannot be started: {}", name_, std::system_category().message(error));
  }
}

ChildProcess::~ChildProcess() {
  if (!code_) {
    kill(pid_, SIGTERM);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
}

std::optional<int> ChildProcess::Ended() {
  int status = 0;
  const pid_t ended = code_ ? 0 : waitpid(pid_, &status, WNOHANG);
  if (ended < 0 && errno != EINTR) {
    const int error = errno;
    code_ = -1;  // there is nobody to end
    Fail(ExitCode::kInternal,
         "how {} (process {}) ended is not known: {}",
         name_,
         pid_,
         std::system_category().message(error));
  }
  if (ended == pid_) {
    code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
  return code_;
}

void ChildProcess::AskToStop() {
  if (!asked_ && !code_) {
    kill(pid_, SIGUSR1);
    asked_ = true;
  }
}

int RunChild(const std::vector<std::string>& arguments, const StopSignal& stop) {
  const WaitableChildren waitable;
  ChildProcess child({arguments, {}, ""});
  while (true) {
    if (const std::optional<int> code = child.Ended()) {
      return *code;
    }
    if (stop.Requested()) {
      child.AskToStop();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace ksa
