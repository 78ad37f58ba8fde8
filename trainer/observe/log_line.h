// The log line of an update, and the numbers in it.
#pragma once

#include <cstdint>
#include <string>

#include "trainer/observe/step_report.h"

namespace ksa {

// step    120/5000 | tokens 983.0K | loss 5.4321 | gnorm 0.873 | lr 3.00e-04 | 812.3 ms | 10.1K tok/s | mfu 51.2% |
// mem 61.2/79.2 GiB | wait data 0.1 comm 3.2 ms | eta 1h06m        (in one line)
[[nodiscard]] std::string FormatLogLine(const StepReport& report);

// 512, 983.0K, 1.2M, 3.4B, 5.6T (decimal).
[[nodiscard]] std::string FormatCount(double count);
// 45s, 12m05s, 1h06m, 2d03h; "?" when unknown (negative or not finite).
[[nodiscard]] std::string FormatDuration(double seconds);
// 512 B, 1.5 KiB, 61.2 GiB.
[[nodiscard]] std::string FormatBytes(int64_t bytes);

}  // namespace ksa
