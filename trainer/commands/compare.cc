#include "trainer/commands/compare.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "data/shards/posix_file.h"
#include "kernels/core/error.h"
#include "trainer/observe/compare.h"
#include "trainer/observe/table.h"

namespace ksa {
namespace {

using nlohmann::ordered_json;

struct CompareOptions {
  std::vector<std::string> runs;
  bool assert_equal = false;
  double rtol = 0;
  std::string json;
};

// Where a run ended; speed is the median, which the first updates don't distort.
Table Summary(const std::vector<ComparedRun>& runs) {
  Table table({{"run", "run"},
               {"updates", "logged updates"},
               {"step", "last step"},
               {"tokens", "tokens"},
               {"loss", "loss", 6},
               {"validation_loss", "validation loss", 6},
               {"tokens_per_second", "tok/s", 1},
               {"seconds", "seconds", 1}});
  for (const ComparedRun& run : runs) {
    const StepReport& last = run.metrics.back().report;
    TableCell validation;
    for (auto line = run.metrics.rbegin(); line != run.metrics.rend(); ++line) {
      const auto& losses = line->report.validation_loss;
      if (!losses.empty()) {
        double sum = 0;
        for (const auto& [name, loss] : losses) {
          sum += loss;
        }
        validation = sum / static_cast<double>(losses.size());
        break;
      }
    }
    std::vector<double> speeds;
    for (const MetricsLine& line : run.metrics) {
      speeds.push_back(line.report.tokens_per_second);
    }
    const auto middle = speeds.begin() + static_cast<std::ptrdiff_t>(speeds.size() / 2);
    std::nth_element(speeds.begin(), middle, speeds.end());
    table.AddRow({run.path,
                  static_cast<int64_t>(run.metrics.size()),
                  last.step,
                  last.tokens,
                  last.loss,
                  validation,
                  *middle,
                  last.seconds});
  }
  return table;
}

Table QuantityTable(const RunDifference& difference) {
  Table table({{"quantity", "quantity"},
               {"first_different_step", "first differs at step"},
               {"a", "first run", 9},
               {"b", "this run", 9},
               {"largest_relative_difference", "largest relative difference", 12}});
  for (const QuantityDifference& quantity : difference.quantities) {
    if (quantity.first_different) {
      table.AddRow({quantity.quantity, *quantity.first_different, quantity.a, quantity.b, quantity.largest_relative});
    } else {
      table.AddRow({quantity.quantity, {}, {}, {}, quantity.largest_relative});
    }
  }
  return table;
}

Table TensorTable(const RunDifference& difference) {
  Table table({{"tensor", "tensor"},
               {"different_elements", "different elements"},
               {"relative_l2", "relative L2 difference", 12}});
  for (const TensorDifference& tensor : difference.tensors) {
    table.AddRow({tensor.name, tensor.different_elements, tensor.relative_l2});
  }
  return table;
}

void PrintDifference(const std::string& first, const std::string& other, const RunDifference& difference) {
  fmt::print("\n{} against {}: {}\n", other, first, difference.differs ? "DIFFERENT" : "equal");
  fmt::print("{} common updates, {} in the first run alone, {} in this one alone\n",
             difference.common_updates,
             difference.only_in_a,
             difference.only_in_b);
  fmt::print("{}", QuantityTable(difference).Text());
  if (!difference.checkpoint_step) {
    fmt::print("no checkpoints of the same step\n");
    return;
  }
  fmt::print("checkpoints of step {}: {} of {} tensors differ\n",
             *difference.checkpoint_step,
             difference.tensors.size(),
             difference.compared_tensors);
  if (!difference.tensors.empty()) {
    fmt::print("{}", TensorTable(difference).Text());
  }
}

ordered_json DifferenceJson(const std::string& other, const RunDifference& difference) {
  ordered_json object;
  object["run"] = other;
  object["differs"] = difference.differs;
  object["common_updates"] = difference.common_updates;
  object["only_in_first"] = difference.only_in_a;
  object["only_in_this"] = difference.only_in_b;
  object["quantities"] = ordered_json::parse(QuantityTable(difference).Json());
  object["checkpoint_step"] = difference.checkpoint_step ? ordered_json(*difference.checkpoint_step) : ordered_json();
  object["tensors"] = ordered_json::parse(TensorTable(difference).Json());
  return object;
}

void Compare(const CompareOptions& options) {
  std::vector<ComparedRun> runs;
  for (const std::string& path : options.runs) {
    const size_t last = path.find_last_not_of('/');
    runs.push_back(OpenComparedRun(path.substr(0, last == std::string::npos ? 1 : last + 1)));
  }
  const CompareRule rule{options.rtol, options.assert_equal};
  const Table summary = Summary(runs);
  fmt::print("{}", summary.Text());
  ordered_json report;
  report["runs"] = ordered_json::parse(summary.Json());
  report["differences"] = ordered_json::array();
  std::string different;
  for (size_t i = 1; i < runs.size(); ++i) {
    const RunDifference difference = CompareRuns(runs[0], runs[i], rule);
    PrintDifference(runs[0].path, runs[i].path, difference);
    report["differences"].push_back(DifferenceJson(runs[i].path, difference));
    if (difference.differs) {
      different += (different.empty() ? "" : ", ") + runs[i].path;
    }
  }
  if (!options.json.empty()) {
    WriteFileAtomically(options.json, report.dump(2) + "\n");
  }
  if (!different.empty()) {
    Fail(ExitCode::kDiffers, "not the same as {}: {}", runs[0].path, different);
  }
}

}  // namespace

void AddCompareCommand(CLI::App& app) {
  const auto options = std::make_shared<CompareOptions>();
  CLI::App* command = app.add_subcommand("compare", "Metrics and weights of runs side by side");
  command->add_option("runs", options->runs, "run folders; all are compared with the first")
      ->required()
      ->expected(2, CLI::detail::expected_max_vector_size)
      ->type_name("RUN");
  CLI::Option* equal = command->add_flag(
      "--assert-equal", options->assert_equal, "moments and the set of logged updates must be equal as well");
  command->add_option("--rtol", options->rtol, "relative difference up to which values count as equal")
      ->check(CLI::PositiveNumber)
      ->excludes(equal)
      ->type_name("X");
  command->add_option("--json", options->json, "also write the result to a file")->type_name("FILE");
  command->footer(
      "Compares tokens, loss, gradient norm, learning rate and validation losses at the updates that both runs "
      "logged,\n"
      "and the weights of the newest step of which both have a checkpoint: in bits, or with --rtol relatively "
      "(weights:\n"
      "in the L2 norm of a tensor). Exit code 2 when they differ.\n"
      "Examples:\n"
      "  ksa compare runs/k4 runs/k8 runs/full\n"
      "  ksa compare runs/straight runs/resumed --assert-equal\n"
      "  ksa compare runs/one_rank runs/two_ranks --rtol 1e-6");
  command->callback([options] { Compare(*options); });
}

}  // namespace ksa
