// A report of runs and sweeps: one page, and its numbers as CSV.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "trainer/report/run_report.h"

namespace ksa {

struct SweepReport {
  std::string name;
  std::string json;  // SweepJson, or what ablate wrote as table.json
};

struct Report {
  std::string title;
  std::string version;  // of the program
  std::vector<SweepReport> sweeps;
  std::vector<RunReport> runs;
  std::vector<std::string> notes;  // of what is in no run
};

// Reads run folders, sweep files, and folders of sweeps (those with a table.json), in this order; of a sweep every cell
// that has a run folder. `sets`: as ablate had them, where the table of a sweep file is not there yet. Errors as
// ReadRunReport, LoadSweep; kBadData for a table.json that is none.
[[nodiscard]] Report ReadReport(const std::vector<std::string>& paths);

// What the page draws, as JSON without '<', '>' and '&': it may stand in HTML as it is. Numbers of curves have six
// digits.
[[nodiscard]] std::string ReportJson(const Report& report);

// The page: one file in HTML that loads nothing. Every text in it is data. Error(kMissingInput) where this program was
// built without the chart library.
[[nodiscard]] std::string ReportPage(const Report& report);

// File names and contents: curves.csv, and what there is of positions.csv, tasks.csv, attention.csv, sweep.csv.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> ReportCsv(const Report& report);

}  // namespace ksa
