#include "trainer/observe/run_history.h"

#include <cmath>
#include <utility>

#include "trainer/observe/metrics.h"

namespace ksa {
namespace {

// The rows with a validation, by update and source.
using Validations = std::map<int64_t, std::map<std::string, double>>;

bool IsBetter(double loss, const RunHistory::AtUpdate& best) {
  return best.step == 0 || loss < best.loss || (std::isnan(best.loss) && !std::isnan(loss));
}

std::map<std::string, RunHistory::Source> SourcesOf(const Validations& validations) {
  std::map<std::string, RunHistory::Source> sources;
  for (const auto& [step, losses] : validations) {
    for (const auto& [name, loss] : losses) {
      RunHistory::Source& source = sources[name];
      source.last = {step, loss};
      if (IsBetter(loss, source.best)) {
        source.best = {step, loss};
      }
    }
  }
  return sources;
}

// The part of a row up to the update's number, `{"run_id":"…","attempt":2,"step":`, which is the same for the rows of
// one start.
std::string_view StartOf(std::string_view row) {
  const size_t step = row.find("\"step\":");
  return row.substr(0, step == std::string_view::npos ? 0 : step);
}

}  // namespace

RunHistory ReadHistory(const std::string& metrics_path) {
  Validations validations;
  std::map<int64_t, double> seconds;  // by start
  RunHistory history;
  const auto end_start = [&](const std::string& row) {
    if (const std::optional<MetricsLine> line = ParseMetricsLine(row)) {
      double& longest = seconds[line->attempt];
      longest = std::fmax(longest, line->report.seconds);
      history.last = line->report;
    }
  };
  std::string before;
  ForMetricsRows(metrics_path, [&](const std::string& row) {
    if (StartOf(row).empty() || !row.ends_with("}")) {
      return;  // torn, or not ours
    }
    if (!before.empty() && StartOf(row) != StartOf(before)) {
      end_start(before);
    }
    before = row;
    if (row.find("\"validation_loss\":{}") == std::string::npos) {
      if (std::optional<MetricsLine> line = ParseMetricsLine(row)) {
        validations[line->report.step] = std::move(line->report.validation_loss);
      }
    }
  });
  end_start(before);
  history.validation = SourcesOf(validations);
  history.starts = static_cast<int64_t>(seconds.size());
  for (const auto& [start, time] : seconds) {
    history.seconds += time;
  }
  return history;
}

}  // namespace ksa
