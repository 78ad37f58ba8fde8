#include "trainer/commands/report.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "data/files/result_file.h"
#include "kernels/core/error.h"
#include "trainer/observe/log_line.h"
#include "trainer/report/report.h"

namespace ksa {
namespace {

struct ReportOptions {
  std::vector<std::string> paths;
  std::optional<std::string> output;
  std::optional<std::string> csv;
};

void WriteCsv(const std::string& folder, const Report& report) {
  MakeFolders(folder);
  for (const auto& [name, text] : ReportCsv(report)) {
    WriteFileAtomically(folder + "/" + name, text);
    fmt::print("{}/{}\n", folder, name);
  }
}

void WriteReport(const ReportOptions& options, const std::string& version) {
  if (!options.output && !options.csv) {
    Fail(ExitCode::kUsage, "nothing to write: give --output FILE.html, --csv DIR or both");
  }
  Report report = ReadReport(options.paths);
  report.version = version;
  for (const RunReport& run : report.runs) {
    for (const std::string& note : run.notes) {
      fmt::print(stderr, "{}: {}\n", run.folder, note);
    }
  }
  if (options.output) {
    const std::string page = ReportPage(report);
    WriteResult(*options.output, page);
    fmt::print(
        "{}: {} run(s), {}\n", *options.output, report.runs.size(), FormatBytes(static_cast<int64_t>(page.size())));
  }
  if (options.csv) {
    WriteCsv(*options.csv, report);
  }
}

}  // namespace

void AddReportCommand(CLI::App& app, const Invocation& invocation) {
  const auto options = std::make_shared<ReportOptions>();
  CLI::App* command = app.add_subcommand("report", "Plots and tables of runs and sweeps, on one HTML page");
  command->add_option("runs", options->paths, "run folders, sweep files, or folders of sweeps")
      ->required()
      ->type_name("RUN|SWEEP");
  command->add_option("--output", options->output, "the page: one file that loads nothing")->type_name("FILE");
  command->add_option("--csv", options->csv, "the plotted numbers, as CSV files in a folder")->type_name("DIR");
  command->footer(
      "Examples:\n"
      "  ksa report runs/books --output books.html\n"
      "  ksa report runs/books runs/other --output both.html --csv both\n"
      "  ksa report sweep.yaml --output sweep.html\n"
      "\n"
      "Losses by tokens, hours and updates, learning rate, gradient norm, speed, memory, waits and task accuracy come\n"
      "from metrics.jsonl; JSON files of `ksa eval` and `ksa inspect` that lie in the run folder are drawn as well:\n"
      "loss by position, accuracy by length and depth, attention. Of a sweep also its table, and loss and accuracy\n"
      "against the bytes of the cache. Long curves are thinned so that no spike is lost.");
  command->callback([options, &invocation] { WriteReport(*options, invocation.version); });
}

}  // namespace ksa
