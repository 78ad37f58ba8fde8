// What is to be said about the cells of a sweep: a line that several of them share is said once.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace ksa {

class CellReport {
 public:
  // `text` may have several lines, each of which is judged by itself.
  void Add(const std::string& cell, const std::string& text);

  [[nodiscard]] bool empty() const { return entries_.empty(); }

  // The lines in the order in which they came, each behind "every cell: ", "cell A: " or "cell A and 3 more: ".
  // `cells`: of the sweep.
  [[nodiscard]] std::vector<std::string> Lines(size_t cells) const;

  // The same, joined by line ends.
  [[nodiscard]] std::string Text(size_t cells) const;

 private:
  struct Entry {
    std::string line;
    std::string first_cell;
    std::string last_cell;
    size_t cells = 0;
  };

  std::vector<Entry> entries_;
};

}  // namespace ksa
