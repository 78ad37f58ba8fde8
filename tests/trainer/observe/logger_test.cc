// Who prints what where: ranks, the terminal, the file.
#include "trainer/observe/logger.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include <pty.h>

#include "tests/trainer/checkpoint/support.h"
#include "trainer/observe/log_line.h"

namespace ksa::testing {
namespace {

StepReport ExampleReport() {
  StepReport report;
  report.step = 3;
  report.max_steps = 10;
  report.loss = 2.5;
  return report;
}

// What a child process prints to a stdout that is a terminal, with the given stderr (-1: the same terminal).
std::string OnTerminal(int error_output, const std::function<void()>& work) {
  int master = -1;
  int terminal = -1;
  EXPECT_EQ(openpty(&master, &terminal, nullptr, nullptr, nullptr), 0);
  static_cast<void>(std::fflush(nullptr));  // else the child prints what the parent had not yet
  const pid_t child = fork();
  if (child == 0) {
    dup2(terminal, STDOUT_FILENO);
    dup2(error_output < 0 ? terminal : error_output, STDERR_FILENO);
    work();
    static_cast<void>(std::fflush(nullptr));
    _exit(0);
  }
  close(terminal);
  std::string text;
  std::array<char, 4096> buffer{};
  for (ssize_t n = 0; (n = read(master, buffer.data(), buffer.size())) > 0;) {
    text.append(buffer.data(), static_cast<size_t>(n));
  }
  close(master);
  EXPECT_EQ(waitpid(child, nullptr, 0), child);
  return text;
}

void LogSomething(int rank, const std::string& path) {
  Logger logger(rank);
  logger.AttachFile(path);
  logger.Info("hello");
  logger.Step(ExampleReport());
  logger.Warn("careful");
}

std::string BarLine() {
  return FormatProgressBar(ExampleReport(), 80);
}

TEST(Logger, ShowsABarOnATerminalAndTheLineInTheFile) {
  const ScratchFolder scratch;
  const std::string text = OnTerminal(-1, [&] { LogSomething(0, scratch / "log.txt"); });
  EXPECT_EQ(text, "hello\r\n" + BarLine() + "\r\x1b[Kwarning: careful\r\n");
  EXPECT_EQ(Slurp(scratch / "log.txt"), "hello\n" + FormatLogLine(ExampleReport()) + "\nwarning: careful\n");
}

TEST(Logger, ShowsTheLineWhereStdoutAloneIsATerminal) {
  const ScratchFolder scratch;
  const int errors = open((scratch / "errors").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  const std::string text = OnTerminal(errors, [&] { LogSomething(0, scratch / "log.txt"); });
  close(errors);
  EXPECT_EQ(text, "hello\r\n" + FormatLogLine(ExampleReport()) + "\r\n");
  EXPECT_EQ(Slurp(scratch / "errors"), "warning: careful\n");
}

TEST(Logger, OtherRanksOnlyWarn) {
  const ScratchFolder scratch;
  const std::string text = OnTerminal(-1, [&] { LogSomething(3, scratch / "log.txt"); });
  EXPECT_EQ(text, "warning (rank 3): careful\r\n");
  EXPECT_FALSE(std::filesystem::exists(scratch / "log.txt"));
}

TEST(Logger, AppendsToTheFile) {
  const ScratchFolder scratch;
  Spill(scratch / "log.txt", "before\n");
  static_cast<void>(OnTerminal(-1, [&] { LogSomething(0, scratch / "log.txt"); }));
  EXPECT_EQ(Slurp(scratch / "log.txt").substr(0, 13), "before\nhello\n");
  Logger logger(0);
  EXPECT_EQ(ErrorOf([&] { logger.AttachFile(scratch / "none/log.txt"); }).code(), ExitCode::kCannotCreate);
}

}  // namespace
}  // namespace ksa::testing
