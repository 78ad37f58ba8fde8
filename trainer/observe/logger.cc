#include "trainer/observe/logger.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

#include <fmt/core.h>

#include "trainer/observe/log_line.h"

namespace ksa {
namespace {

int TerminalWidth() {
  constexpr int kUnknown = 80;
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col - 1 : kUnknown;
}

// What cannot be printed is lost there, and only there; main sees that it was (ferror).
void Print(std::FILE* to, const std::string& text) {
  static_cast<void>(std::fwrite(text.data(), 1, text.size(), to));
  static_cast<void>(std::fflush(to));
}

}  // namespace

// mpirun gives ranks a terminal of its own as stdout, whatever its output really is, but a pipe as stderr.
Logger::Logger(int rank) : rank_(rank), terminal_(isatty(STDOUT_FILENO) == 1 && isatty(STDERR_FILENO) == 1) {}

Logger::~Logger() {
  if (bar_shown_) {
    Print(stdout, "\n");
  }
}

void Logger::AttachFile(const std::string& path) {
  if (rank_ == 0) {
    file_.emplace(path, AppendFile::Kind::kLog);
    file_->Append(early_);
    early_.clear();
  }
}

void Logger::Info(const std::string& line) {
  if (rank_ == 0) {
    ClearBar();
    Print(stdout, line + "\n");
    Append(line);
  }
}

void Logger::Warn(const std::string& line) {
  const std::string text = rank_ == 0 ? "warning: " + line : fmt::format("warning (rank {}): {}", rank_, line);
  ClearBar();
  Print(stderr, text + "\n");
  Append(text);
}

void Logger::Record(const std::string& line) {
  if (rank_ == 0) {
    ClearBar();
    Append(line);
  }
}

void Logger::Step(const StepReport& report) {
  if (rank_ != 0) {
    return;
  }
  const std::string line = FormatLogLine(report);
  Append(line);
  if (!terminal_) {
    Print(stdout, line + "\n");
    return;
  }
  ClearBar();
  Print(stdout, FormatProgressBar(report, TerminalWidth()));
  bar_shown_ = true;
}

void Logger::ClearBar() {
  if (bar_shown_) {
    Print(stdout, "\r\x1b[K");
    bar_shown_ = false;
  }
}

void Logger::Append(const std::string& line) {
  if (file_) {
    file_->Append(line + "\n");
  } else if (rank_ == 0) {
    early_ += line + "\n";
  }
}

}  // namespace ksa
