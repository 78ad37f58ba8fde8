#include "trainer/report/run_report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "data/files/json.h"
#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "kernels/core/error.h"
#include "trainer/config/load.h"
#include "trainer/observe/metric_series.h"
#include "trainer/report/thin.h"
#include "trainer/run/run_folder.h"

namespace ksa {
namespace {

constexpr int64_t kMostAttachmentBytes = int64_t{16} << 20;
constexpr size_t kMostAttachments = 64;
constexpr double kSecondsAnHour = 3600.0;

// Numbers of bookkeeping, which make no curve.
bool IsCurve(const std::string& name) {
  return name != "tokens" && name != "seconds";
}

std::optional<double> Median(std::vector<double> values) {
  std::erase_if(values, [](double value) { return !std::isfinite(value); });
  if (values.empty()) {
    return std::nullopt;
  }
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void AddCurves(const MetricSeries& series, size_t most, RunReport& run) {
  const std::vector<double>* tokens = series.Find("tokens");
  for (const auto& [name, values] : series.values) {
    if (!IsCurve(name)) {
      continue;
    }
    ReportCurve curve;
    curve.name = name;
    for (const size_t i : ThinPoints(values, most)) {
      curve.steps.push_back(series.steps[i]);
      curve.tokens.push_back(tokens == nullptr ? std::nan("") : (*tokens)[i]);
      curve.hours.push_back(series.elapsed[i] / kSecondsAnHour);
      curve.values.push_back(values[i]);
    }
    if (!curve.values.empty()) {
      run.curves.push_back(std::move(curve));
    }
  }
}

bool AddMetrics(const std::string& path, size_t most, RunReport& run) {
  if (!IsFile(path)) {
    run.notes.push_back("no metrics.jsonl here: the run has not made an update");
    return false;
  }
  const MetricSeries series = ReadMetricSeries(path);
  if (series.skipped > 0) {
    run.notes.push_back(
        fmt::format("{} line(s) of metrics.jsonl are torn or no rows, and were left out", series.skipped));
  }
  if (series.steps.empty()) {
    run.notes.push_back("metrics.jsonl has no row");
    return true;
  }
  run.updates = series.steps.back();
  run.hours = series.elapsed.back() / kSecondsAnHour;
  if (const auto tokens = series.Last("tokens")) {
    run.tokens = tokens->value;
  }
  if (const std::vector<double>* speeds = series.Find("tokens_per_second")) {
    run.tokens_per_second = Median(*speeds);
  }
  AddCurves(series, most, run);
  return true;
}

bool AddConfig(const std::string& path, RunReport& run) {
  if (!IsFile(path)) {
    run.notes.push_back("no config.resolved.yaml here: nothing is known of the configuration");
    return false;
  }
  try {
    const Config config = LoadConfig(path).config;
    run.name = config.run.name;
    run.config = FlattenConfig(config);
  } catch (const Error& error) {
    run.notes.push_back(fmt::format("config.resolved.yaml cannot be read: {}", error.what()));
  }
  return true;
}

// Told by what is in it, whatever it is called.
std::optional<AttachmentKind> KindOfJson(const nlohmann::json& json) {
  const auto has = [&](const char* key, bool list) {
    const auto found = json.is_object() ? json.find(key) : json.end();
    return json.is_object() && found != json.end() && (list ? found->is_array() : found->is_object());
  };
  if (has("by_position", true)) {
    return AttachmentKind::kPositions;
  }
  if (has("by", false) && json.contains("task")) {
    return AttachmentKind::kTask;
  }
  return has("layers", true) ? std::optional(AttachmentKind::kAttention) : std::nullopt;
}

void AddAttachments(RunReport& run) {
  for (const std::string& name : NamesIn(run.folder)) {
    const std::string path = run.folder + "/" + name;
    if (!name.ends_with(".json") || name == "tokenizer.json" || !IsFile(path) ||
        run.attachments.size() >= kMostAttachments) {
      continue;
    }
    try {
      if (FileBytes(path) > kMostAttachmentBytes) {
        run.notes.push_back(
            fmt::format("{} is larger than {} MiB, and was left out", name, kMostAttachmentBytes >> 20));
        continue;
      }
      const nlohmann::json json = ParseJson(ReadSmallFile(path, kMostAttachmentBytes), path);
      if (const std::optional<AttachmentKind> kind = KindOfJson(json)) {
        run.attachments.push_back({name, *kind, json.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)});
      } else {
        run.notes.push_back(fmt::format("{}: neither of eval nor of inspect; left out", name));
      }
    } catch (const Error& error) {
      run.notes.push_back(fmt::format("{}: left out: {}", name, error.what()));
    }
  }
}

}  // namespace

RunReport ReadRunReport(const std::string& folder, size_t most) {
  if (!IsFolder(folder)) {
    Fail(ExitCode::kMissingInput, "{}: a run folder or a sweep was expected, found {}", folder, NameOf(KindOf(folder)));
  }
  const RunPaths paths(folder);
  RunReport run;
  run.folder = folder;
  std::filesystem::path path = std::filesystem::path(folder).lexically_normal();
  run.name = (path.has_filename() ? path : path.parent_path()).filename().string();
  const bool has_config = AddConfig(paths.Configuration(), run);
  const bool has_metrics = AddMetrics(paths.Metrics(), most, run);
  AddAttachments(run);
  if (!has_config && !has_metrics && run.attachments.empty()) {
    Fail(ExitCode::kMissingInput,
         "{}: nothing of a run is in it (metrics.jsonl, config.resolved.yaml); give a run folder, a sweep file, or the "
         "folder of a sweep with its table.json",
         folder);
  }
  return run;
}

std::vector<ConfigRow> DifferingKeys(const std::vector<RunReport>& runs) {
  std::vector<ConfigRow> rows;
  std::map<std::string, size_t> row_of;
  for (size_t r = 0; r < runs.size(); ++r) {
    for (const auto& [key, value] : runs[r].config) {
      if (key == "run.name" || key == "run.dir") {
        continue;
      }
      const auto [found, is_new] = row_of.try_emplace(key, rows.size());
      if (is_new) {
        rows.push_back({key, std::vector<std::string>(runs.size())});
      }
      rows[found->second].values[r] = value;
    }
  }
  // A run whose configuration is not known differs in nothing.
  std::erase_if(rows, [&](const ConfigRow& row) {
    std::set<std::string> values;
    for (size_t r = 0; r < runs.size(); ++r) {
      if (!runs[r].config.empty()) {
        values.insert(row.values[r]);
      }
    }
    return values.size() < 2;
  });
  return rows;
}

}  // namespace ksa
