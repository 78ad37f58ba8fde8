// What a person reads: rank 0's lines on the terminal and in log.txt.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/tools/terminal_line.h"
#include "trainer/observe/append_file.h"
#include "trainer/observe/color.h"
#include "trainer/observe/step_report.h"
#include "trainer/observe/validation_result.h"

namespace ksa {

// Lines go to stdout, warnings to stderr, both to log.txt: what was said before it is attached is kept for it, and so
// is what kernels and libraries warned of (WarnOnce). Only rank 0 prints; a warning of another rank goes to stderr and
// log.txt with its number. Colours and the bar are for terminals: the file has the same words without them. A terminal
// or a pipe that has gone away ends nothing: log.txt is the record. Not thread-safe: one thread of a rank logs.
class Logger {
 public:
  explicit Logger(int rank, ColorChoice color = ColorChoice::kAuto);
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;
  ~Logger();

  // Rank 0: appends `header` to the file at `path`, then everything said so far and from now on; a file that is not
  // empty gets an empty line first. Other ranks note where it is. Error(kCannotCreate), kIo.
  void AttachFile(const std::string& path, const std::string& header = "");

  // The attached file; null before, and on other ranks.
  [[nodiscard]] AppendFile* file() { return file_ ? &*file_ : nullptr; }

  void Info(const std::string& line, Style style = Style::kPlain);
  // The rows of a validation after `step` of `max_steps` updates; none where there are no results.
  void Validation(const std::vector<ValidationResult>& results, int64_t step, int64_t max_steps);
  void Tasks(const std::vector<TaskResult>& results, int64_t step, int64_t max_steps);
  void Warn(const std::string& line);  // as "warning: ..."

  // In log.txt alone: somebody else prints it. From any rank.
  void Record(const std::string& line);

  // The log line of an update, and under it a row for every source and task that was validated; where stdout and stderr
  // are a terminal a progress bar in the line's place (the file always gets the line).
  void Step(const StepReport& report);

  // An update that has no log line of its own: the bar moves on, a few times a second. Its report lacks timing, which
  // the bar has from the last line's.
  void Tick(const StepReport& report);

 private:
  void ShowBar(const StepReport& report);
  void Append(const std::string& line);

  int rank_;
  bool terminal_;
  bool color_out_;
  bool color_err_;
  size_t library_warnings_;  // that were said before, or are in the file
  TerminalLine bar_{stdout};
  StepReport last_;                           // that had a line
  std::vector<ValidationResult> validation_;  // the last one
  std::chrono::steady_clock::time_point bar_time_{};
  std::string early_;  // what was said before the file was there
  std::optional<AppendFile> file_;
  std::string path_;  // of the file, on every rank once it is there
};

// Adds a line to a log that another process or thread writes as well, in one write. What fails is not reported: these
// are words of somebody who has no other place for them.
void AppendLastWords(const std::string& path, const std::string& line) noexcept;

}  // namespace ksa
