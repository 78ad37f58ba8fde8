#include "trainer/observe/logger.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "kernels/core/error.h"
#include "trainer/observe/log_line.h"

namespace ksa {
namespace {

int TerminalWidth() {
  constexpr int kUnknown = 80;
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col - 1 : kUnknown;
}

void Print(std::FILE* to, const std::string& line) {
  fmt::print(to, "{}\n", line);
  static_cast<void>(std::fflush(to));  // a log that is not there cannot be reported in the log
}

}  // namespace

// mpirun gives ranks a terminal of its own as stdout, whatever its output really is, but a pipe as stderr.
Logger::Logger(int rank) : rank_(rank), terminal_(isatty(STDOUT_FILENO) == 1 && isatty(STDERR_FILENO) == 1) {}

Logger::~Logger() {
  if (bar_shown_) {
    fmt::print("\n");
  }
  if (file_ != nullptr) {
    static_cast<void>(std::fclose(file_));
  }
}

void Logger::AttachFile(const std::string& path) {
  if (rank_ != 0) {
    return;
  }
  file_ = std::fopen(path.c_str(), "ae");
  if (file_ == nullptr) {
    Fail(ExitCode::kCannotCreate, "{}: cannot be opened for appending: {}", path, std::strerror(errno));
  }
}

void Logger::Info(const std::string& line) {
  if (rank_ == 0) {
    ClearBar();
    Print(stdout, line);
    Append(line);
  }
}

void Logger::Warn(const std::string& line) {
  const std::string text = rank_ == 0 ? "warning: " + line : fmt::format("warning (rank {}): {}", rank_, line);
  ClearBar();
  Print(stderr, text);
  Append(text);
}

void Logger::Step(const StepReport& report) {
  if (rank_ != 0) {
    return;
  }
  const std::string line = FormatLogLine(report);
  Append(line);
  if (!terminal_) {
    Print(stdout, line);
    return;
  }
  ClearBar();
  fmt::print("{}", FormatProgressBar(report, TerminalWidth()));
  static_cast<void>(std::fflush(stdout));
  bar_shown_ = true;
}

void Logger::ClearBar() {
  if (bar_shown_) {
    fmt::print("\r\x1b[K");
    static_cast<void>(std::fflush(stdout));  // before a warning goes to stderr
    bar_shown_ = false;
  }
}

void Logger::Append(const std::string& line) {
  if (file_ != nullptr) {
    Print(file_, line);
  }
}

}  // namespace ksa
