#include "trainer/evaluate/sweep_means.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "trainer/evaluate/sweep_table.h"

namespace ksa {
namespace {

struct Measure {
  std::string key;  // in the table of cells
  std::string head;
  int decimals = 0;
  bool deviation = false;  // shown beside the mean
  bool measured = true;    // by a run; else it follows from the configuration
};

std::vector<Measure> MeasuresOf(const Table& cells) {
  std::vector<Measure> measures = {{"final_loss", "loss", 4, true},
                                   {"validation_loss", "valid", 4, true},
                                   {"validation_loss_minus_full", "- full", 4, true}};
  for (const TableColumn& column : cells.columns()) {
    if (column.key.starts_with(kAccuracyColumn)) {
      measures.push_back({column.key, column.head, 4, true});
    }
  }
  measures.push_back({"tokens_per_second", "tokens/s", 0, false});
  measures.push_back({"kv_bytes_a_token", "KV bytes/token", 0, false, false});
  return measures;
}

// What `select` keeps: the cells that it called the best; of families that have not decided all; all without `select`.
bool IsKept(const Sweep& sweep, const Table& cells, size_t row) {
  if (!sweep.select) {
    return true;
  }
  const size_t choice = cells.ColumnOf("choice");
  const auto is_best = [&](size_t i) { return !std::holds_alternative<std::monostate>(cells.rows()[i][choice]); };
  bool decided = false;
  for (size_t i = 0; i < sweep.cells.size(); ++i) {
    decided = decided || (sweep.cells[i].family == sweep.cells[row].family && is_best(i));
  }
  return !decided || is_best(row);
}

bool IsDone(const Table& table, size_t row) {
  const auto* status = std::get_if<std::string>(&table.rows()[row][table.ColumnOf("status")]);
  return status != nullptr && *status == "done";
}

// What is known of a column in the rows of a group; with `done_only` in those of finished cells: one that was stopped
// has learnt less than its like.
std::vector<double> Known(const Table& table, const std::vector<size_t>& rows, const std::string& key, bool done_only) {
  const size_t column = table.ColumnOf(key);
  std::vector<double> values;
  for (const size_t row : rows) {
    if (done_only && !IsDone(table, row)) {
      continue;
    }
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
    if (!IsKept(sweep, cells, i)) {
      continue;
    }
    const auto found = std::find(groups.begin(), groups.end(), sweep.cells[i].group);
    const auto group = static_cast<size_t>(found - groups.begin());
    if (found == groups.end()) {
      groups.push_back(sweep.cells[i].group);
      rows.emplace_back();
    }
    rows[group].push_back(i);
  }
  std::vector<TableColumn> columns = {{"cell", "cell", 0}, {"runs", "runs", 0}};
  const std::vector<Measure> measures = MeasuresOf(cells);
  for (const Measure& measure : measures) {
    columns.push_back({measure.key + "_mean", measure.head, measure.decimals});
    if (measure.deviation) {
      columns.push_back({measure.key + "_sd", "sd", measure.decimals});
    }
  }
  Table means(columns);
  for (size_t group = 0; group < groups.size(); ++group) {
    const std::string label = groups[group].empty() ? "all" : groups[group];
    std::vector<TableCell> row = {label, static_cast<int64_t>(Known(cells, rows[group], "final_loss", true).size())};
    for (const Measure& measure : measures) {
      const std::vector<double> values = Known(cells, rows[group], measure.key, measure.measured);
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
