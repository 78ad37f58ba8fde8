#include "trainer/config/cell_report.h"

#include <algorithm>
#include <sstream>

#include <fmt/core.h>
#include <fmt/ranges.h>

namespace ksa {

void CellReport::Add(const std::string& cell, const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    auto entry = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& known) { return known.line == line; });
    if (entry == entries_.end()) {
      entry = entries_.insert(entry, {line, cell, "", 0});
    }
    if (entry->last_cell != cell) {
      entry->last_cell = cell;
      ++entry->cells;
    }
  }
}

std::vector<std::string> CellReport::Lines(size_t cells) const {
  std::vector<std::string> lines;
  for (const Entry& entry : entries_) {
    const std::string who =
        entry.cells == cells && cells > 1
            ? "every cell"
            : fmt::format(
                  "cell {}{}", entry.first_cell, entry.cells > 1 ? fmt::format(" and {} more", entry.cells - 1) : "");
    lines.push_back(fmt::format("{}: {}", who, entry.line));
  }
  return lines;
}

std::string CellReport::Text(size_t cells) const {
  return fmt::format("{}", fmt::join(Lines(cells), "\n"));
}

}  // namespace ksa
