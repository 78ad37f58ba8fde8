// What a report has of one run: read from its folder, thinned, and put in order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ksa {

// A curve over updates: one number of metrics.jsonl ("loss", "validation_loss/books"), thinned.
struct ReportCurve {
  std::string name;
  std::vector<int64_t> steps;
  std::vector<double> tokens;
  std::vector<double> hours;  // of training, of all starts
  std::vector<double> values;
};

// A JSON file of the run folder that `ksa eval`, `ksa eval --task` or `ksa inspect` wrote.
enum class AttachmentKind : int { kPositions, kTask, kAttention };

struct ReportAttachment {
  std::string file;  // its name in the folder
  AttachmentKind kind = AttachmentKind::kPositions;
  std::string json;  // the file
};

struct RunReport {
  std::string name;
  std::string folder;
  std::vector<std::string> notes;                           // what was left out, and why
  std::vector<std::pair<std::string, std::string>> config;  // every key with its value
  int64_t updates = 0;
  double tokens = 0;
  double hours = 0;
  std::optional<double> tokens_per_second;  // the median
  std::vector<ReportCurve> curves;
  std::vector<ReportAttachment> attachments;
};

// `most`: points a curve. A folder without metrics has no curves and a note. Error(kMissingInput) where there is no
// folder, or nothing of a run in it; kIo.
[[nodiscard]] RunReport ReadRunReport(const std::string& folder, size_t most);

// The keys that not all runs have the same value of, but the names and folders of the runs; of each the values by run,
// empty where a run has none.
struct ConfigRow {
  std::string key;
  std::vector<std::string> values;
};

[[nodiscard]] std::vector<ConfigRow> DifferingKeys(const std::vector<RunReport>& runs);

}  // namespace ksa
