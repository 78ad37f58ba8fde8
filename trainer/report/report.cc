#include "trainer/report/report.h"

#include <algorithm>
#include <filesystem>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "data/files/json.h"
#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "kernels/core/error.h"
#include "trainer/config/sweep.h"
#include "trainer/evaluate/sweep_table.h"
#include "trainer/report/page.h"

namespace ksa {
namespace {

constexpr size_t kMostPoints = 1200;   // a curve
constexpr size_t kFewestPoints = 120;  // also where there are many runs
constexpr size_t kPointsOfAll = 8000;  // of one number over all runs

// What is to be read: folders of runs, and sweeps.
struct ReportPaths {
  std::vector<std::string> runs;
  std::vector<SweepReport> sweeps;
};

SweepReport ReadTable(const std::string& path) {
  const std::string text = ReadSmallFile(path);
  const nlohmann::json json = ParseJson(text, path);
  const bool good =
      json.is_object() && json.contains("sweep") && json["sweep"].is_string() && json.contains("rows") &&
      json["rows"].is_array() &&
      std::all_of(json["rows"].begin(), json["rows"].end(), [](const auto& row) { return row.is_object(); });
  if (!good) {
    Fail(ExitCode::kBadData, "{}: a table of ksa ablate was expected ({{sweep, rows, ...}}); run ablate --table", path);
  }
  return {json["sweep"].get<std::string>(), text};
}

void AddCell(const std::string& folder, ReportPaths& found) {
  if (IsFile(folder + "/metrics.jsonl") || IsFile(folder + "/config.resolved.yaml")) {
    found.runs.push_back(folder);
  }
}

void AddSweepFolder(const std::string& folder, ReportPaths& found) {
  found.sweeps.push_back(ReadTable(folder + "/table.json"));
  for (const std::string& name : NamesIn(folder)) {
    AddCell(folder + "/" + name, found);
  }
}

void AddSweepFile(const std::string& path, ReportPaths& found) {
  const Sweep sweep = LoadSweep(path);
  if (IsFile(sweep.dir + "/table.json")) {
    found.sweeps.push_back(ReadTable(sweep.dir + "/table.json"));
  } else {
    std::vector<int> codes;
    for (const SweepCell& cell : sweep.cells) {
      codes.push_back(IsComplete(cell) ? static_cast<int>(ExitCode::kDone) : kCellNotRun);
    }
    found.sweeps.push_back({sweep.name, SweepJson(sweep, SummarizeSweep(sweep, codes))});
  }
  for (const SweepCell& cell : sweep.cells) {
    AddCell(cell.config.run.dir, found);
  }
}

ReportPaths FindAll(const std::vector<std::string>& paths) {
  ReportPaths found;
  for (const std::string& path : paths) {
    if (IsFile(path)) {
      if (!IsSweepFile(path)) {
        Fail(ExitCode::kMissingInput, "{}: a run folder or a sweep was expected, found another file", path);
      }
      AddSweepFile(path, found);
    } else if (IsFile(path + "/table.json") && !IsFile(path + "/metrics.jsonl")) {
      AddSweepFolder(path, found);
    } else {
      found.runs.push_back(path);
    }
  }
  return found;
}

}  // namespace

Report ReadReport(const std::vector<std::string>& paths) {
  ReportPaths found = FindAll(paths);
  Report report;
  report.sweeps = std::move(found.sweeps);
  const size_t most = std::clamp(kPointsOfAll / std::max<size_t>(1, found.runs.size()), kFewestPoints, kMostPoints);
  for (const std::string& folder : found.runs) {
    report.runs.push_back(ReadRunReport(folder, most));
  }
  for (const SweepReport& sweep : report.sweeps) {
    report.title += (report.title.empty() ? "" : ", ") + sweep.name;
  }
  if (report.title.empty()) {
    report.title = report.runs.front().name;
    report.title += report.runs.size() > 1 ? fmt::format(" and {} more", report.runs.size() - 1) : "";
  }
  if (report.runs.empty()) {
    report.notes.push_back("no cell of the sweep has a run folder yet");
  }
  return report;
}

std::string ReportPage(const Report& report) {
  if (ChartLibrary().empty()) {
    Fail(ExitCode::kMissingInput,
         "this program was built without Chart.js, which draws the page; install the package libjs-chart.js and build "
         "again (cmake looks for it), or ask for --csv alone");
  }
  // Nothing is loaded: the browser itself refuses to.
  std::string page =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'unsafe-inline'; "
      "style-src 'unsafe-inline'; img-src data:\">\n";
  page += fmt::format(
      "<title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n{}", EscapeHtml(report.title), PageStyle(), PageBody());
  page += fmt::format("<script type=\"application/json\" id=\"data\">{}</script>\n", ReportJson(report));
  page +=
      fmt::format("<script>\n{}\n</script>\n<script>\n{}</script>\n</body>\n</html>\n", ChartLibrary(), PageScript());
  return page;
}

}  // namespace ksa
