#include "trainer/commands/compare.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "data/files/result_file.h"
#include "kernels/core/error.h"
#include "trainer/commands/number_option.h"
#include "trainer/evaluate/compare.h"
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

// Relative differences span many orders of magnitude.
std::string FormatRelative(double relative) {
  return relative == 0 ? "0" : fmt::format("{:.2e}", relative);
}

// All digits: one bit may be the difference.
TableCell ValueCell(const std::optional<double>& value) {
  return value ? TableCell(fmt::format("{}", *value)) : TableCell();
}

void PrintQuantities(const RunDifference& difference) {
  Table table({{"quantity", "quantity"},
               {"step", "first differs at step"},
               {"a", "first run"},
               {"b", "this run"},
               {"relative", "largest relative difference"}});
  for (const QuantityDifference& quantity : difference.quantities) {
    std::vector<TableCell> row(table.columns().size());
    row[0] = quantity.quantity;
    row[4] = FormatRelative(quantity.largest_relative);
    if (quantity.first_different) {
      row[1] = *quantity.first_different;
      row[2] = ValueCell(quantity.a);
      row[3] = ValueCell(quantity.b);
    }
    table.AddRow(std::move(row));
  }
  fmt::print("{}", table.Text());
  for (const QuantityDifference& quantity : difference.quantities) {
    if (quantity.only_in_a > 0 || quantity.only_in_b > 0) {
      fmt::print("{}: of the common updates {} have it in the first run alone, {} in this one alone\n",
                 quantity.quantity,
                 quantity.only_in_a,
                 quantity.only_in_b);
    }
  }
}

// The tensors that differ most.
void PrintTensors(const RunDifference& difference) {
  constexpr size_t kMost = 8;
  std::vector<TensorDifference> tensors = difference.tensors;
  std::stable_sort(tensors.begin(), tensors.end(), [](const TensorDifference& a, const TensorDifference& b) {
    return a.relative_l2 > b.relative_l2;
  });
  Table table({{"tensor", "tensor"}, {"elements", "different elements"}, {"relative", "relative L2 difference"}});
  for (size_t i = 0; i < std::min(tensors.size(), kMost); ++i) {
    table.AddRow({tensors[i].name, tensors[i].different_elements, FormatRelative(tensors[i].relative_l2)});
  }
  fmt::print("{}", table.Text());
  if (tensors.size() > kMost) {
    fmt::print("and {} more with smaller differences\n", tensors.size() - kMost);
  }
}

void PrintDifference(const std::string& first, const std::string& other, const RunDifference& difference) {
  fmt::print("\n{} against {}: {}\n", other, first, difference.differs ? "DIFFERENT" : "equal");
  fmt::print("{} common updates, {} in the first run alone, {} in this one alone\n",
             difference.common_updates,
             difference.only_in_a,
             difference.only_in_b);
  PrintQuantities(difference);
  if (!difference.checkpoint_step) {
    fmt::print("no checkpoints of the same step\n");
    return;
  }
  fmt::print("checkpoints of step {}: {} of {} tensors differ\n",
             *difference.checkpoint_step,
             difference.tensors.size(),
             difference.compared_tensors);
  if (!difference.tensors.empty()) {
    PrintTensors(difference);
  }
}

ordered_json ValueJson(const std::optional<double>& value) {
  return value ? ordered_json(*value) : ordered_json();
}

// Numbers that are not finite become null: JSON has no others.
ordered_json DifferenceJson(const std::string& other, const RunDifference& difference) {
  ordered_json object;
  object["run"] = other;
  object["differs"] = difference.differs;
  object["common_updates"] = difference.common_updates;
  object["only_in_first"] = difference.only_in_a;
  object["only_in_this"] = difference.only_in_b;
  object["quantities"] = ordered_json::array();
  for (const QuantityDifference& quantity : difference.quantities) {
    ordered_json entry;
    entry["quantity"] = quantity.quantity;
    const bool differs = quantity.first_different.has_value();
    entry["first_different_step"] = differs ? ordered_json(*quantity.first_different) : ordered_json();
    entry["first_run"] = ValueJson(quantity.a);
    entry["this_run"] = ValueJson(quantity.b);
    entry["largest_relative_difference"] = quantity.largest_relative;
    entry["only_in_first"] = quantity.only_in_a;
    entry["only_in_this"] = quantity.only_in_b;
    object["quantities"].push_back(entry);
  }
  object["checkpoint_step"] = difference.checkpoint_step ? ordered_json(*difference.checkpoint_step) : ordered_json();
  object["compared_tensors"] = difference.compared_tensors;
  object["tensors"] = ordered_json::array();
  for (const TensorDifference& tensor : difference.tensors) {
    ordered_json entry;
    entry["tensor"] = tensor.name;
    entry["different_elements"] = tensor.different_elements;
    entry["relative_l2"] = tensor.relative_l2;
    object["tensors"].push_back(entry);
  }
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
    WriteResult(options.json, report.dump(2) + "\n");
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
  command->add_option("--rtol", options->rtol, "relative difference up to which values are equal")
      ->check(PositiveNumber())
      ->excludes(equal)
      ->type_name("X");
  command->add_option("--json", options->json, "also write the result to a file")->type_name("FILE");
  command->footer(
      "Examples:\n"
      "  ksa compare runs/k4 runs/k8 runs/full\n"
      "  ksa compare runs/straight runs/resumed --assert-equal\n"
      "  ksa compare runs/one_rank runs/two_ranks --rtol 5e-4\n\n"
      "Compares tokens, loss, gradient norm, learning rate and validation losses at the updates that both runs "
      "logged,\n"
      "and the weights of the newest step of which both have a checkpoint: in bits, or with --rtol relatively "
      "(weights:\n"
      "in the L2 norm of a tensor). With --rtol validation losses that one run alone has are counted, not compared: a\n"
      "stop adds one off evaluation.interval. Exit code 2 when they differ. The last example holds for the first "
      "updates\n"
      "of an fp32 run on two layouts, which add in different orders: losses are within 1e-5 and weights within 5e-4; "
      "later\n"
      "the runs drift apart.");
  command->callback([options] { Compare(*options); });
}

}  // namespace ksa
