// What the benchmarks share: repeated timing, and a report that names the device and the command.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kernels/core/device.h"
#include "trainer/observe/table.h"
#include "trainer/step/runtime.h"

namespace ksa {

// Times of repeated runs, in milliseconds.
struct Timing {
  double median = 0.0;
  double least = 0.0;
};

// Runs `function` once to warm up, then `repeats` times: wall time on the CPU, on a device the time between events
// around it on the stream.
[[nodiscard]] Timing Measure(int repeats, const Stream& stream, const std::function<void()>& function);

// Of at least one value; of an even number of values the mean of the two in the middle.
[[nodiscard]] double Median(std::vector<double> values);

// The processor's name as the system knows it; "unknown CPU" where it doesn't say.
[[nodiscard]] std::string CpuName();

// The GPU's name, or the processor's.
[[nodiscard]] std::string DeviceName(const Runtime& runtime);

// The command line of this process, the program without its folder.
[[nodiscard]] std::string CommandLine();

// A number that follows from several rows, such as a speedup.
struct Finding {
  std::string key;   // in JSON
  std::string text;  // for people, with a place {} for the value
  double value = 0.0;
};

struct BenchReport {
  std::string benchmark;  // "attention"
  std::string device;     // DeviceName, CpuName
  int threads = 1;        // of the host
  Table table;
  std::vector<Finding> findings;
};

// Prints the report, and writes {benchmark, device, threads, command, rows, findings} to `json_path` if there is one.
// Error(kCannotCreate, kIo).
void Publish(const BenchReport& report, const std::optional<std::string>& json_path);

}  // namespace ksa
