#include "trainer/observe/logger.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <new>

#include <fmt/core.h>

#include "kernels/core/warning.h"
#include "trainer/observe/bar.h"
#include "trainer/observe/log_line.h"
#include "trainer/observe/validation_line.h"
#include "trainer/observe/wrap.h"

namespace ksa {
namespace {

// What cannot be printed is lost there, and only there; main sees that it was (ferror).
void Print(std::FILE* to, const std::string& text) {
  static_cast<void>(std::fwrite(text.data(), 1, text.size(), to));
  static_cast<void>(std::fflush(to));
}

bool IsTerminal() {
  return isatty(STDOUT_FILENO) == 1 && isatty(STDERR_FILENO) == 1;
}

// mpirun gives ranks a terminal of its own as stdout, whatever its output really is, but a pipe as stderr.
bool ColorsStdout(ColorChoice color) {
  return UsesColor(color, STDOUT_FILENO) && UsesColor(color, STDERR_FILENO);
}

}  // namespace

Logger::Logger(int rank, ColorChoice color)
    : rank_(rank),
      terminal_(IsTerminal()),
      color_out_(ColorsStdout(color)),
      color_err_(UsesColor(color, STDERR_FILENO)),
      library_warnings_(WarningsSaid().size()) {}

Logger::~Logger() {
  bar_.Keep();
}

void Logger::AttachFile(const std::string& path, const std::string& header) {
  path_ = path;
  if (rank_ != 0) {
    return;
  }

  struct stat info {};

  const bool goes_on = stat(path.c_str(), &info) == 0 && info.st_size > 0;
  file_.emplace(path, AppendFile::Kind::kLog);
  file_->Append((goes_on && !header.empty() ? "\n" : "") + header + early_);
  early_.clear();
}

void Logger::Info(const std::string& line, Style style) {
  if (rank_ == 0) {
    bar_.Clear();
    const std::string shown = terminal_ ? Folded(line, static_cast<size_t>(bar_.Width())) : line;
    Print(stdout, Paint(style, shown, color_out_) + "\n");
    Append(line);
  }
}

void Logger::Validation(const std::vector<ValidationResult>& results, int64_t step, int64_t max_steps) {
  for (const std::string& line : FormatValidation(results, step, max_steps)) {
    Info(line, Style::kGood);
  }
  if (!results.empty()) {
    validation_ = results;
  }
}

void Logger::Tasks(const std::vector<TaskResult>& results, int64_t step, int64_t max_steps) {
  for (const std::string& line : FormatTasks(results, step, max_steps)) {
    Info(line, Style::kGood);
  }
}

void Logger::Warn(const std::string& line) {
  const std::string word = rank_ == 0 ? "warning:" : fmt::format("warning (rank {}):", rank_);
  bar_.Clear();
  Print(stderr, fmt::format("{} {}\n", Paint(Style::kWarning, word, color_err_), line));
  Record(word + " " + line);
}

void Logger::Record(const std::string& line) {
  bar_.Clear();
  if (rank_ == 0) {
    Append(line);
  } else if (!path_.empty()) {
    AppendLastWords(path_, line);
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
  }
  Validation(report.validation, report.step, report.max_steps);
  Tasks(report.tasks, report.step, report.max_steps);
  if (terminal_) {
    last_ = report;
    ShowBar(report);
  }
}

void Logger::Tick(const StepReport& report) {
  constexpr auto kPause = std::chrono::milliseconds(200);
  if (rank_ != 0 || !terminal_ || std::chrono::steady_clock::now() - bar_time_ < kPause) {
    return;
  }
  StepReport shown = report;
  shown.tokens_per_second = last_.tokens_per_second;
  shown.eta_seconds = last_.eta_seconds - static_cast<double>(report.step - last_.step) * last_.step_ms / 1e3;
  ShowBar(shown);
}

void Logger::ShowBar(const StepReport& report) {
  const std::string text = FormatProgressBar(report, validation_, bar_.Width());
  bar_.Show(text, Paint(Style::kAccent, text, color_out_));
  bar_time_ = std::chrono::steady_clock::now();
}

void Logger::Append(const std::string& line) {
  std::string lines;
  for (const std::string& text : WarningsSaid(library_warnings_)) {
    ++library_warnings_;
    lines += "ksa: warning: " + text + "\n";
  }
  lines += line + "\n";
  if (file_) {
    file_->Append(lines);
  } else {
    early_ += lines;
  }
}

void AppendLastWords(const std::string& path, const std::string& line) noexcept {
  const int descriptor = open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    return;
  }
  try {
    const std::string whole = line + "\n";
    static_cast<void>(!write(descriptor, whole.data(), whole.size()));
  } catch (const std::bad_alloc&) {  // there was no memory for it
  }
  static_cast<void>(close(descriptor));
}

}  // namespace ksa
