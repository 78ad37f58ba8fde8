// metrics.jsonl: one JSON object a line and update, append-only. Keys: docs/metrics.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/observe/step_report.h"

namespace ksa {

// Rank 0 only.
class MetricsWriter {
 public:
  // Opens for appending; a last line without its newline, left by a crash, is ended first. Error(kCannotCreate).
  MetricsWriter(const std::string& path, std::string run_id, int64_t attempt);
  MetricsWriter(const MetricsWriter&) = delete;
  MetricsWriter& operator=(const MetricsWriter&) = delete;
  ~MetricsWriter();

  // One line, in one write: it is in the file when the call returns. Error(kIo).
  void Write(const StepReport& report);

 private:
  std::string path_;
  std::string run_id_;
  int64_t attempt_;
  int fd_ = -1;
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

// Every update once, in order: the line of its last attempt, of several by one attempt the last. Lines that don't parse
// are skipped. Error(kMissingInput) when there is no such file.
[[nodiscard]] std::vector<MetricsLine> ReadMetrics(const std::string& path);

}  // namespace ksa
