// metrics.jsonl: one JSON object a line and update, append-only. Keys: docs/metrics.md.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "trainer/observe/append_file.h"
#include "trainer/observe/step_report.h"

namespace ksa {

// Rank 0 only.
class MetricsWriter {
 public:
  // Opens for appending; a last line without its newline, left by a crash, is ended first. Error(kCannotCreate), kIo.
  MetricsWriter(const std::string& path, std::string run_id, int64_t attempt);

  // One line: it is in the file when the call returns, or waits in memory (AppendFile).
  void Write(const StepReport& report);

  [[nodiscard]] AppendFile& file() { return file_; }

 private:
  std::string run_id_;
  int64_t attempt_;
  AppendFile file_;
};

// One line of metrics.jsonl. Numbers that are null in the file (not finite, unknown) are NaN; max_steps, step_ms,
// memory_total and eta_seconds are not in the file.
struct MetricsLine {
  std::string run_id;
  int64_t attempt = 0;
  StepReport report;
};

// The line as text, without newline.
[[nodiscard]] std::string RenderMetricsLine(const MetricsLine& line);

// A row as it is in the file; none when it is torn or not ours.
[[nodiscard]] std::optional<MetricsLine> ParseMetricsLine(const std::string& text);

// Every row of the file in order, as text. Error(kMissingInput) when there is no such file, kIo.
void ForMetricsRows(const std::string& path, const std::function<void(const std::string& row)>& work);

// Every update once, in order: the line of its last attempt, of several by one attempt the last. Lines that don't parse
// are skipped. Error(kMissingInput) when there is no such file.
[[nodiscard]] std::vector<MetricsLine> ReadMetrics(const std::string& path);

// The line of one update's last attempt; none when it was not written. Error(kMissingInput).
[[nodiscard]] std::optional<MetricsLine> FindMetrics(const std::string& path, int64_t step);

// The last line of the last attempt; none when no line parses. Error(kMissingInput).
[[nodiscard]] std::optional<MetricsLine> LastAttemptOf(const std::string& path);

}  // namespace ksa
