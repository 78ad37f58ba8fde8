#include "trainer/sweep/progress_view.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <sstream>

#include <fmt/core.h>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "data/tools/terminal_line.h"
#include "kernels/core/error.h"
#include "trainer/observe/log_line.h"
#include "trainer/observe/metrics.h"
#include "trainer/observe/table.h"

namespace ksa {
namespace {

constexpr int64_t kTailBytes = 16384;  // several rows

// The last whole row of a file that somebody else appends to; none where there is none yet.
std::optional<StepReport> LastRow(const std::string& path) {
  try {
    if (!IsFile(path)) {
      return std::nullopt;
    }
    const File file = File::OpenForReading(path);
    const int64_t size = file.Size();
    std::string text(static_cast<size_t>(std::min(size, kTailBytes)), '\0');
    file.ReadAt(size - static_cast<int64_t>(text.size()), text.data(), static_cast<int64_t>(text.size()));
    std::optional<StepReport> last;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      if (const std::optional<MetricsLine> row = ParseMetricsLine(line)) {
        last = row->report;
      }
    }
    return last;
  } catch (const Error&) {
    return std::nullopt;  // a view of progress is no reason to end
  }
}

int64_t LastUpdate(const Config& config) {
  return std::min(config.training.max_steps, config.training.hard_stop.value_or(config.training.max_steps));
}

// The first `width` columns.
std::string Cut(const std::string& text, int width) {
  const auto columns = static_cast<size_t>(std::max(width, 1));
  size_t end = 0;
  while (end < text.size() && ColumnsOf(std::string_view(text).substr(0, end + 1)) <= columns) {
    ++end;
  }
  return text.substr(0, end);
}

}  // namespace

std::string FormatCounts(const SweepCounts& counts) {
  std::string text = fmt::format("{} done", counts.done);
  text += counts.failed > 0 ? fmt::format(", {} failed", counts.failed) : "";
  text += fmt::format(", {} to run", counts.left);
  text += counts.rejected > 0 ? fmt::format(", {} not chosen", counts.rejected) : "";
  text += counts.seconds_left > 0 ? fmt::format(", about {}", FormatDuration(counts.seconds_left)) : "";
  return text;
}

std::vector<std::string> ProgressLines(
    const Sweep& sweep, const std::vector<RunningCell>& running, const SweepCounts& counts, int width, size_t most) {
  const bool gpus =
      std::any_of(running.begin(), running.end(), [](const RunningCell& one) { return !one.gpu.empty(); });
  std::vector<TableColumn> columns = {
      {"update", "update"}, {"loss", "loss", 4}, {"speed", "tok/s"}, {"time", "time"}, {"cell", "cell"}};
  if (gpus) {
    columns.insert(columns.begin(), {"gpu", "gpu"});
  }
  Table table(columns);
  for (size_t i = 0; i < std::min(running.size(), most); ++i) {
    const RunningCell& one = running[i];
    const SweepCell& cell = sweep.cells[one.cell];
    const std::optional<StepReport> last = LastRow(cell.config.run.dir + "/metrics.jsonl");
    std::vector<TableCell> row(columns.size());
    auto at = row.begin();
    if (gpus) {
      *at++ = one.gpu;
    }
    *at++ = fmt::format("{}/{}", last ? last->step : 0, LastUpdate(cell.config));
    *at++ = last && std::isfinite(last->loss) ? TableCell(last->loss) : TableCell();
    *at++ = last && last->tokens_per_second > 0 ? TableCell(FormatCount(last->tokens_per_second)) : TableCell();
    *at++ = FormatDuration(one.seconds);
    *at++ = cell.label;
    table.AddRow(std::move(row));
  }
  std::vector<std::string> lines;
  std::istringstream text(table.Text());
  for (std::string line; std::getline(text, line);) {
    lines.push_back(Cut(line, width));
  }
  const std::string more = running.size() > most ? fmt::format("{} more run; ", running.size() - most) : std::string();
  lines.push_back(Cut(more + FormatCounts(counts), width));
  return lines;
}

void TerminalBlock::Show(const std::vector<std::string>& lines) {
  Clear();
  for (const std::string& line : lines) {
    static_cast<void>(std::fputs((line + "\n").c_str(), to_));
  }
  shown_ = lines.size();
  static_cast<void>(std::fflush(to_));
}

void TerminalBlock::Clear() {
  if (shown_ > 0) {
    static_cast<void>(std::fputs(fmt::format("\x1b[{}A\r\x1b[J", shown_).c_str(), to_));
    shown_ = 0;
  }
}

}  // namespace ksa
