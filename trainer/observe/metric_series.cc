#include "trainer/observe/metric_series.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <utility>

#include <nlohmann/json.hpp>

#include "trainer/observe/metrics.h"

namespace ksa {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

// The columns as they grow. Rows of one run have the same keys in the same order, so that the next one is mostly known.
class Columns {
 public:
  void Put(const std::string& object, const std::string& key, double value) {
    if (next_ >= columns_.size() || columns_[next_].object != object || columns_[next_].key != key) {
      next_ = Find(object, key);
    }
    row_.emplace_back(next_, value);
    ++next_;
  }

  void Drop() {
    row_.clear();
    next_ = 0;
  }

  void Commit() {
    for (const auto& [column, value] : row_) {
      std::vector<double>& values = columns_[column].values;
      values.resize(rows_, kNone);
      values.push_back(value);
    }
    ++rows_;
    Drop();
  }

  [[nodiscard]] size_t rows() const { return rows_; }

  // Every column, as long as there are rows.
  [[nodiscard]] std::map<std::string, std::vector<double>> Take() {
    std::map<std::string, std::vector<double>> all;
    for (Column& column : columns_) {
      column.values.resize(rows_, kNone);
      all.emplace(column.object.empty() ? column.key : column.object + "/" + column.key, std::move(column.values));
    }
    return all;
  }

 private:
  struct Column {
    std::string object;
    std::string key;
    std::vector<double> values;
  };

  [[nodiscard]] size_t Find(const std::string& object, const std::string& key) {
    const auto found = std::find_if(columns_.begin(), columns_.end(), [&](const Column& column) {
      return column.object == object && column.key == key;
    });
    if (found != columns_.end()) {
      return static_cast<size_t>(found - columns_.begin());
    }
    columns_.push_back({object, key, {}});
    return columns_.size() - 1;
  }

  std::vector<Column> columns_;
  std::vector<std::pair<size_t, double>> row_;  // column and value of the row that is being read
  size_t next_ = 0;
  size_t rows_ = 0;
};

// What the parser finds in one line: numbers of the row, and of the objects in it.
class RowReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit RowReader(Columns& columns) : columns_(columns) {}

  void Begin() {
    depth_ = 0;
    lists_ = 0;
    is_row_ = false;
    step_.reset();
    attempt_.reset();
  }

  [[nodiscard]] bool IsRow() const { return is_row_ && step_ && attempt_; }

  [[nodiscard]] int64_t step() const { return *step_; }

  [[nodiscard]] int64_t attempt() const { return *attempt_; }

  bool null() override { return depth_ == 2 ? Number(std::numeric_limits<double>::infinity(), std::nullopt) : true; }

  bool boolean(bool /*value*/) override { return true; }

  bool number_integer(number_integer_t value) override { return Number(static_cast<double>(value), value); }

  bool number_unsigned(number_unsigned_t value) override {
    return Number(static_cast<double>(value), static_cast<int64_t>(value));
  }

  bool number_float(number_float_t value, const string_t& /*text*/) override { return Number(value, std::nullopt); }

  bool string(string_t& /*value*/) override { return true; }

  bool binary(binary_t& /*value*/) override { return true; }

  bool start_object(std::size_t /*elements*/) override {
    is_row_ = is_row_ || (depth_ == 0 && lists_ == 0);
    object_ = depth_ == 1 ? key_ : "";
    ++depth_;
    return true;
  }

  bool end_object() override {
    --depth_;
    return true;
  }

  bool key(string_t& value) override {
    key_ = value;
    return true;
  }

  bool start_array(std::size_t /*elements*/) override {
    ++lists_;
    return true;
  }

  bool end_array() override {
    --lists_;
    return true;
  }

  bool parse_error(std::size_t /*at*/,
                   const std::string& /*token*/,
                   const nlohmann::detail::exception& /*e*/) override {
    return false;
  }

 private:
  bool Number(double value, std::optional<int64_t> whole) {
    if (lists_ > 0 || depth_ < 1 || depth_ > 2) {
      return true;
    }
    if (depth_ == 1 && key_ == "step") {
      step_ = whole;
    } else if (depth_ == 1 && key_ == "attempt") {
      attempt_ = whole;
    } else {
      columns_.Put(depth_ == 1 ? std::string() : object_, key_, value);
    }
    return true;
  }

  Columns& columns_;
  std::string key_;
  std::string object_;
  int depth_ = 0;
  int lists_ = 0;
  bool is_row_ = false;
  std::optional<int64_t> step_;
  std::optional<int64_t> attempt_;
};

struct RowId {
  int64_t step = 0;
  int64_t attempt = 0;
  size_t row = 0;
};

// Of every update its last attempt's last row, by update.
std::vector<RowId> LastOfEach(std::vector<RowId> ids) {
  std::stable_sort(ids.begin(), ids.end(), [](const RowId& a, const RowId& b) {
    return std::pair(a.step, a.attempt) < std::pair(b.step, b.attempt);
  });
  std::vector<RowId> last;
  for (const RowId& id : ids) {
    if (!last.empty() && last.back().step == id.step) {
      last.back() = id;
    } else {
      last.push_back(id);
    }
  }
  return last;
}

// `seconds` of a row count from its own start: before it come those of all earlier ones, whose rows may be lost since.
void AddElapsed(const std::vector<RowId>& all,
                const std::vector<RowId>& kept,
                MetricSeries& series,
                const std::vector<double>& seconds) {
  std::map<int64_t, double> before;  // by attempt: first its own length
  for (const RowId& id : all) {
    double& longest = before[id.attempt];
    longest = std::max(longest, std::isfinite(seconds[id.row]) ? seconds[id.row] : 0.0);
  }
  double sum = 0;
  for (auto& [attempt, length] : before) {
    sum += std::exchange(length, sum);
  }
  for (const RowId& id : kept) {
    series.elapsed.push_back(before[id.attempt] + seconds[id.row]);
  }
}

}  // namespace

const std::vector<double>* MetricSeries::Find(const std::string& name) const {
  const auto found = values.find(name);
  return found == values.end() ? nullptr : &found->second;
}

std::optional<MetricSeries::AtUpdate> MetricSeries::Last(const std::string& name) const {
  const std::vector<double>* column = Find(name);
  for (size_t i = steps.size(); column != nullptr && i-- > 0;) {
    if (!std::isnan((*column)[i])) {
      return AtUpdate{steps[i], (*column)[i]};
    }
  }
  return std::nullopt;
}

std::vector<std::string> MetricSeries::NamesOf(const std::string& key) const {
  std::vector<std::string> names;
  const std::string prefix = key + "/";
  for (auto at = values.lower_bound(prefix); at != values.end() && at->first.starts_with(prefix); ++at) {
    names.push_back(at->first.substr(prefix.size()));
  }
  return names;
}

MetricSeries ReadMetricSeries(const std::string& path) {
  Columns columns;
  RowReader reader(columns);
  std::vector<RowId> all;
  MetricSeries series;
  ForMetricsRows(path, [&](const std::string& text) {
    reader.Begin();
    if (nlohmann::json::sax_parse(text, &reader) && reader.IsRow()) {
      all.push_back({reader.step(), reader.attempt(), columns.rows()});
      columns.Commit();
    } else {
      series.skipped += text.empty() ? 0 : 1;
      columns.Drop();
    }
  });
  const std::vector<RowId> kept = LastOfEach(all);
  std::map<std::string, std::vector<double>> table = columns.Take();
  for (const RowId& id : kept) {
    series.steps.push_back(id.step);
  }
  const auto seconds = table.find("seconds");
  AddElapsed(all, kept, series, seconds == table.end() ? std::vector<double>(all.size(), kNone) : seconds->second);
  for (const auto& [name, column] : table) {
    std::vector<double>& values = series.values[name];
    values.reserve(kept.size());
    for (const RowId& id : kept) {
      values.push_back(column[id.row]);
    }
  }
  return series;
}

}  // namespace ksa
