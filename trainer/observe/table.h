// A table of results: for people (text), for spreadsheets (CSV) and for programs (JSON).
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace ksa {

struct TableColumn {
  std::string key;   // in CSV and JSON
  std::string head;  // in text
  int decimals = 3;  // of fractional numbers in text; CSV and JSON have every digit
};

// Nothing (unknown), a text, a whole number, or a number. Numbers that are not finite count as unknown.
using TableCell = std::variant<std::monostate, std::string, int64_t, double>;

class Table {
 public:
  explicit Table(std::vector<TableColumn> columns) : columns_(std::move(columns)) {}

  // As many cells as there are columns.
  void AddRow(std::vector<TableCell> cells);

  [[nodiscard]] const std::vector<TableColumn>& columns() const { return columns_; }

  [[nodiscard]] const std::vector<std::vector<TableCell>>& rows() const { return rows_; }

  // The index of a column; an Error(kInternal) where there is none of this key.
  [[nodiscard]] size_t ColumnOf(const std::string& key) const;

  // Columns aligned (texts left, numbers right), a header and a rule; unknown is "-". The columns whose keys `keys`
  // lists, in that order; all when empty.
  [[nodiscard]] std::string Text(const std::vector<std::string>& keys = {}) const;

  // RFC 4180, keys in the first line; unknown is empty.
  [[nodiscard]] std::string Csv() const;

  // An array of objects by key; unknown is null.
  [[nodiscard]] std::string Json() const;

 private:
  std::vector<TableColumn> columns_;
  std::vector<std::vector<TableCell>> rows_;
};

}  // namespace ksa
