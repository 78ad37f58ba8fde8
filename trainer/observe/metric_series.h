// metrics.jsonl as columns, whatever its keys are: for those who draw it, or choose by one of its numbers.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace ksa {

struct MetricSeries {
  std::vector<int64_t> steps;   // rising: every update once, as its last attempt wrote it
  std::vector<double> elapsed;  // seconds of training up to there, of all starts; as long as `steps`
  // A column a number of the rows: under its key ("loss"), or "key/name" where the row has an object of numbers
  // ("validation_loss/books"). As long as `steps`; NaN where a row has none. What is null in an object was measured and
  // is not finite: infinity.
  std::map<std::string, std::vector<double>> values;
  int64_t skipped = 0;  // lines that are no row: torn ones

  // Null where no row has it.
  [[nodiscard]] const std::vector<double>* Find(const std::string& name) const;

  // The value of the last row that has one, and its update.
  struct AtUpdate {
    int64_t step = 0;
    double value = 0;
  };

  [[nodiscard]] std::optional<AtUpdate> Last(const std::string& name) const;

  // The names behind "key/" of an object, sorted.
  [[nodiscard]] std::vector<std::string> NamesOf(const std::string& key) const;
};

// Error(kMissingInput) when there is no such file, kIo.
[[nodiscard]] MetricSeries ReadMetricSeries(const std::string& path);

}  // namespace ksa
