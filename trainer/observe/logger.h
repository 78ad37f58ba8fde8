// What a person reads: rank 0's lines on the terminal and in log.txt.
#pragma once

#include <cstdio>
#include <memory>
#include <string>

#include "trainer/observe/step_report.h"

namespace ksa {

// Lines go to stdout, warnings to stderr, both to log.txt once it is attached. Only rank 0 prints; a warning of another
// rank goes to stderr with its number. Not thread-safe: one thread of a rank logs.
class Logger {
 public:
  explicit Logger(int rank);
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;
  ~Logger();

  // Rank 0: appends everything from now on to `path`. Error(kCannotCreate).
  void AttachFile(const std::string& path);

  void Info(const std::string& line);
  void Warn(const std::string& line);  // as "warning: ..."

  // The log line of an update; where stdout and stderr are a terminal a progress bar in its place (the file always gets
  // the line).
  void Step(const StepReport& report);

 private:
  void ClearBar();
  void Append(const std::string& line);

  int rank_;
  bool terminal_;
  bool bar_shown_ = false;
  std::FILE* file_ = nullptr;  // owned
};

}  // namespace ksa
