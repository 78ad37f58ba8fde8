#include "trainer/observe/table.h"

#include <algorithm>
#include <cmath>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "data/tools/terminal_line.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

bool IsUnknown(const TableCell& cell) {
  const double* number = std::get_if<double>(&cell);
  return std::holds_alternative<std::monostate>(cell) || (number != nullptr && !std::isfinite(*number));
}

std::string TextOf(const TableCell& cell, int decimals) {
  if (IsUnknown(cell)) {
    return "-";
  }
  if (const auto* text = std::get_if<std::string>(&cell)) {
    return *text;
  }
  if (const auto* whole = std::get_if<int64_t>(&cell)) {
    return fmt::format("{}", *whole);
  }
  return fmt::format("{:.{}f}", std::get<double>(cell), decimals);
}

std::string QuotedCsv(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) {
    return text;
  }
  std::string quoted = "\"";
  for (const char c : text) {
    quoted += c == '"' ? "\"\"" : std::string(1, c);
  }
  return quoted + "\"";
}

std::string CsvOf(const TableCell& cell) {
  if (IsUnknown(cell)) {
    return "";
  }
  const double* number = std::get_if<double>(&cell);
  return number != nullptr ? fmt::format("{}", *number) : QuotedCsv(TextOf(cell, 0));
}

std::string Padded(const std::string& text, size_t width, bool left) {
  const std::string blanks(width - std::min(width, ColumnsOf(text)), ' ');
  return left ? text + blanks : blanks + text;
}

std::string Trimmed(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

}  // namespace

void Table::AddRow(std::vector<TableCell> cells) {
  KSA_CHECK(cells.size() == columns_.size(), "{} cells for {} columns", cells.size(), columns_.size());
  rows_.push_back(std::move(cells));
}

size_t Table::ColumnOf(const std::string& key) const {
  for (size_t c = 0; c < columns_.size(); ++c) {
    if (columns_[c].key == key) {
      return c;
    }
  }
  Fail(ExitCode::kInternal, "the table has no column {}", key);
}

std::string Table::Text(const std::vector<std::string>& keys) const {
  std::vector<size_t> shown;
  for (const std::string& key : keys) {
    shown.push_back(ColumnOf(key));
  }
  for (size_t c = 0; keys.empty() && c < columns_.size(); ++c) {
    shown.push_back(c);
  }
  std::vector<std::string> lines(rows_.size() + 2);
  for (const size_t c : shown) {
    size_t width = ColumnsOf(columns_[c].head);
    bool left = false;
    for (const std::vector<TableCell>& row : rows_) {
      width = std::max(width, ColumnsOf(TextOf(row[c], columns_[c].decimals)));
      left = left || std::holds_alternative<std::string>(row[c]);
    }
    const std::string gap = c == shown.front() ? "" : "  ";
    lines[0] += gap + Padded(columns_[c].head, width, left);
    lines[1] += gap + std::string(width, '-');
    for (size_t r = 0; r < rows_.size(); ++r) {
      lines[r + 2] += gap + Padded(TextOf(rows_[r][c], columns_[c].decimals), width, left);
    }
  }
  std::string text;
  for (const std::string& line : lines) {
    text += Trimmed(line) + "\n";
  }
  return text;
}

std::string Table::Csv() const {
  std::string text;
  for (const TableColumn& column : columns_) {
    text += &column == columns_.data() ? "" : ",";
    text += QuotedCsv(column.key);
  }
  for (const std::vector<TableCell>& row : rows_) {
    text += "\n";
    for (const TableCell& cell : row) {
      text += &cell == row.data() ? "" : ",";
      text += CsvOf(cell);
    }
  }
  return text + "\n";
}

std::string Table::Json() const {
  nlohmann::ordered_json array = nlohmann::ordered_json::array();
  for (const std::vector<TableCell>& row : rows_) {
    nlohmann::ordered_json object;
    for (size_t c = 0; c < columns_.size(); ++c) {
      nlohmann::ordered_json& value = object[columns_[c].key];
      if (IsUnknown(row[c])) {
        value = nullptr;
      } else if (const auto* text = std::get_if<std::string>(&row[c])) {
        value = *text;
      } else if (const auto* whole = std::get_if<int64_t>(&row[c])) {
        value = *whole;
      } else {
        value = std::get<double>(row[c]);
      }
    }
    array.push_back(std::move(object));
  }
  return array.dump(2);
}

}  // namespace ksa
