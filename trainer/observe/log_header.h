// What log.txt says of a start before anything else.
#pragma once

#include <cstdint>
#include <string>

#include "trainer/observe/invocation.h"

namespace ksa {

// Where a start runs.
struct LogPlace {
  std::string host;
  std::string device;  // "cpu", or the GPU's name
  int threads = 1;     // of a rank
  int ranks = 1;
  int64_t attempt = 1;  // number of the start in this run folder
};

// Lines that begin with #: date and program, command line, working directory, host, devices. Ends with a newline.
[[nodiscard]] std::string LogHeader(const Invocation& invocation, const LogPlace& place);

// "2026-11-30 18:31:02 +0000", in the machine's time zone.
[[nodiscard]] std::string FormatDate(std::chrono::system_clock::time_point time);

}  // namespace ksa
