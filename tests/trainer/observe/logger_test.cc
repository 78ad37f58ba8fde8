// Who prints what where: ranks, the terminal, the file.
#include "trainer/observe/logger.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include <pty.h>

#include "kernels/core/warning.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/observe/bar.h"
#include "trainer/observe/log_line.h"
#include "trainer/observe/validation_line.h"

namespace ksa::testing {
namespace {

StepReport ExampleReport() {
  StepReport report;
  report.step = 3;
  report.max_steps = 10;
  report.loss = 2.5;
  report.tokens_per_second = 100;
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
  Logger logger(rank, ColorChoice::kNever);
  logger.AttachFile(path);
  logger.Info("hello");
  logger.Step(ExampleReport());
  logger.Warn("careful");
}

std::string BarLine() {
  return FormatProgressBar(ExampleReport(), {}, 79);
}

TEST(Logger, ShowsABarOnATerminalAndTheLineInTheFile) {
  const ScratchFolder scratch;
  const std::string text = OnTerminal(-1, [&] { LogSomething(0, scratch / "log.txt"); });
  EXPECT_EQ(text, "hello\r\n" + BarLine() + "\r\x1b[Kwarning: careful\r\n");
  EXPECT_EQ(Slurp(scratch / "log.txt"), "hello\n" + FormatLogLine(ExampleReport()) + "\nwarning: careful\n");
}

// The rows stay, the bar below them shows what they said until the next validation.
TEST(Logger, ShowsValidationInRowsAndOnTheBar) {
  const ScratchFolder scratch;
  StepReport report = ExampleReport();
  report.validation = {{.name = "books", .loss = 1.5, .standard_error = 0.1, .samples_read = 2, .samples_there = 9}};
  const std::string row = FormatValidation(report.validation, 3, 10).front();
  const std::string text = OnTerminal(-1, [&] {
    Logger logger(0, ColorChoice::kNever);
    logger.AttachFile(scratch / "log.txt");
    logger.Step(report);
    logger.Tick(ExampleReport());  // at once: the bar stays as it is
    logger.Step(ExampleReport());
  });
  const std::string bar = FormatProgressBar(report, report.validation, 79);
  EXPECT_NE(bar.find("val 1.5000"), std::string::npos);
  EXPECT_EQ(text, row + "\r\n" + bar + "\r\x1b[K" + bar + "\r\n");
  const std::string line = FormatLogLine(report);
  EXPECT_EQ(Slurp(scratch / "log.txt"), line + "\n" + row + "\n" + line + "\n");
}

TEST(Logger, TheBarMovesBetweenLines) {
  const std::string text = OnTerminal(-1, [&] {
    Logger logger(0, ColorChoice::kNever);
    StepReport report = ExampleReport();
    report.tokens_per_second = 0;
    logger.Tick(report);  // before the first line nothing is known of speed
  });
  EXPECT_NE(text.find("step 3/10 | loss 2.5000\r\n"), std::string::npos) << text;
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

TEST(Logger, HeadersComeFirstAndStandApart) {
  const ScratchFolder scratch;
  const auto start = [&](const std::string& header) {
    Logger logger(0);
    logger.Record("said before");
    logger.AttachFile(scratch / "log.txt", header);
    logger.Record("said after");
  };
  start("# one\n");
  start("# two\n");
  EXPECT_EQ(Slurp(scratch / "log.txt"), "# one\nsaid before\nsaid after\n\n# two\nsaid before\nsaid after\n");
}

TEST(Logger, WordsOfOtherRanksAreInTheFile) {
  const ScratchFolder scratch;
  Logger leader(0);
  leader.AttachFile(scratch / "log.txt", "# one\n");
  ::testing::internal::CaptureStderr();
  {
    Logger other(3);
    other.Warn("nobody knows where the file is yet");
    other.AttachFile(scratch / "log.txt", "# never written\n");
    other.Warn("careful");
    other.Record("error: lost");
  }
  static_cast<void>(::testing::internal::GetCapturedStderr());
  leader.Record("on");
  EXPECT_EQ(Slurp(scratch / "log.txt"), "# one\nwarning (rank 3): careful\nerror: lost\non\n");
}

TEST(Logger, WarningsOfLibrariesAreInTheFile) {
  const ScratchFolder scratch;
  Logger logger(0);
  ::testing::internal::CaptureStderr();
  WarnOnce("the logger's test: a library warns");
  static_cast<void>(::testing::internal::GetCapturedStderr());
  logger.AttachFile(scratch / "log.txt");
  logger.Record("one");
  logger.Record("two");
  EXPECT_EQ(Slurp(scratch / "log.txt"), "ksa: warning: the logger's test: a library warns\none\ntwo\n");
}

TEST(Logger, ColorsAreForTheTerminalAlone) {
  const ScratchFolder scratch;
  const auto log = [&] {
    Logger logger(0, ColorChoice::kAlways);
    logger.AttachFile(scratch / "log.txt");
    logger.Info("heading", Style::kStrong);
    logger.Warn("careful");
  };
  EXPECT_EQ(OnTerminal(-1, log), "\x1b[1mheading\x1b[0m\r\n\x1b[1;33mwarning:\x1b[0m careful\r\n");
  EXPECT_EQ(Slurp(scratch / "log.txt"), "heading\nwarning: careful\n");
}

// A window that is made narrower breaks the bar into rows: all of them are cleared.
TEST(Logger, ClearsABarThatANarrowerWindowHasBroken) {
  const ScratchFolder scratch;
  const auto resize = [](unsigned short columns) {
    const winsize size = {.ws_row = 24, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
    return ioctl(STDOUT_FILENO, TIOCSWINSZ, &size);
  };
  const std::string text = OnTerminal(-1, [&] {
    Logger logger(0, ColorChoice::kNever);
    static_cast<void>(resize(100));
    logger.Step(ExampleReport());
    static_cast<void>(resize(40));
    logger.Step(ExampleReport());
  });
  const std::string wide = FormatProgressBar(ExampleReport(), {}, 99);
  ASSERT_GT(wide.size(), 80U);
  EXPECT_EQ(text, wide + "\r\x1b[2A\x1b[J" + FormatProgressBar(ExampleReport(), {}, 39) + "\r\n");
}

}  // namespace
}  // namespace ksa::testing
