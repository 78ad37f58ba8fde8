// What a person reads: rank 0's lines on the terminal and in log.txt.
#pragma once

#include <optional>
#include <string>

#include "trainer/observe/append_file.h"
#include "trainer/observe/step_report.h"

namespace ksa {

// Lines go to stdout, warnings to stderr, both to log.txt: what was said before it is attached is kept for it. Only
// rank 0 prints; a warning of another rank goes to stderr with its number. A terminal or a pipe that has gone away ends
// nothing: log.txt is the record. Not thread-safe: one thread of a rank logs.
class Logger {
 public:
  explicit Logger(int rank);
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;
  ~Logger();

  // Rank 0: appends everything said so far and from now on to `path`. Error(kCannotCreate), kIo.
  void AttachFile(const std::string& path);

  // The attached file; null before, and on other ranks.
  [[nodiscard]] AppendFile* file() { return file_ ? &*file_ : nullptr; }

  void Info(const std::string& line);
  void Warn(const std::string& line);    // as "warning: ..."
  void Record(const std::string& line);  // in log.txt alone: somebody else prints it

  // The log line of an update; where stdout and stderr are a terminal a progress bar in its place (the file always gets
  // the line).
  void Step(const StepReport& report);

 private:
  void ClearBar();
  void Append(const std::string& line);

  int rank_;
  bool terminal_;
  bool bar_shown_ = false;
  std::string early_;  // what was said before the file was there
  std::optional<AppendFile> file_;
};

}  // namespace ksa
