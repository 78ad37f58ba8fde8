#include "trainer/evaluate/sweep_means.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

namespace ksa {
namespace {

struct Measure {
  const char* key;  // in the table of cells
  const char* head;
  int decimals;
  bool deviation;  // shown beside the mean
};

constexpr Measure kMeasures[] = {{"final_loss", "loss", 4, true},
                                 {"validation_loss", "valid", 4, true},
                                 {"validation_loss_minus_full", "- full", 4, true},
                                 {"tokens_per_second", "tokens/s", 0, false}};

// What is known of a column in the rows of a group.
std::vector<double> Known(const Table& table, const std::vector<size_t>& rows, const std::string& key) {
  const size_t column = table.ColumnOf(key);
  std::vector<double> values;
  for (const size_t row : rows) {
    const TableCell& cell = table.rows()[row][column];
    if (const auto* value = std::get_if<double>(&cell); value != nullptr && std::isfinite(*value)) {
      values.push_back(*value);
    }
  }
  return values;
}

TableCell Mean(const std::vector<double>& values) {
  if (values.empty()) {
    return {};
  }
  double sum = 0.0;
  for (const double value : values) {
    sum += value;
  }
  return sum / static_cast<double>(values.size());
}

TableCell Deviation(const std::vector<double>& values) {
  if (values.size() < 2) {
    return {};
  }
  const double mean = std::get<double>(Mean(values));
  double squares = 0.0;
  for (const double value : values) {
    squares += (value - mean) * (value - mean);
  }
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

}  // namespace

Table SweepMeans(const Sweep& sweep, const Table& cells) {
  std::vector<std::string> groups;
  std::vector<std::vector<size_t>> rows;
  for (size_t i = 0; i < sweep.cells.size(); ++i) {
    const auto found = std::find(groups.begin(), groups.end(), sweep.cells[i].group);
    const auto group = static_cast<size_t>(found - groups.begin());
    if (found == groups.end()) {
      groups.push_back(sweep.cells[i].group);
      rows.emplace_back();
    }
    rows[group].push_back(i);
  }
  std::vector<TableColumn> columns = {{"cell", "cell", 0}, {"runs", "runs", 0}};
  for (const Measure& measure : kMeasures) {
    columns.push_back({std::string(measure.key) + "_mean", measure.head, measure.decimals});
    if (measure.deviation) {
      columns.push_back({std::string(measure.key) + "_sd", "sd", measure.decimals});
    }
  }
  Table means(columns);
  for (size_t group = 0; group < groups.size(); ++group) {
    const std::string label = groups[group].empty() ? "all" : groups[group];
    std::vector<TableCell> row = {label, static_cast<int64_t>(Known(cells, rows[group], "final_loss").size())};
    for (const Measure& measure : kMeasures) {
      const std::vector<double> values = Known(cells, rows[group], measure.key);
      row.push_back(Mean(values));
      if (measure.deviation) {
        row.push_back(Deviation(values));
      }
    }
    means.AddRow(std::move(row));
  }
  return means;
}

}  // namespace ksa
