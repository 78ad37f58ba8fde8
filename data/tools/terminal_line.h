// A line of a terminal that shows how far something is, drawn again and again.
#pragma once

#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace ksa {

// Columns that a UTF-8 text takes, a character each.
[[nodiscard]] size_t ColumnsOf(std::string_view text);

// A part of the line; where not all fit, parts of a higher rank are left out first. Empty ones never show.
struct LinePart {
  std::string text;
  int rank = 0;
};

// "[#####.....] part | part": a bar that is filled to the share `done` (0 to 1), and the parts, in at most `width`
// columns. The bar takes the room that the parts leave, if that is enough for one.
[[nodiscard]] std::string FormatBar(double done, const std::vector<LinePart>& parts, int width);

// The line itself. What cannot be printed is lost. One at a time on a terminal.
class TerminalLine {
 public:
  explicit TerminalLine(std::FILE* to) : to_(to) {}

  // Columns that a line may take, asked anew each time, as the window may have another size by now; 79 where nobody
  // knows.
  [[nodiscard]] int Width() const;

  // In place of what was shown. `text` without its colours says how many columns it takes; `painted` is what is
  // printed.
  void Show(const std::string& text, const std::string& painted);

  // Removes it, also where a window that became narrower has broken it into several rows.
  void Clear();

  // Leaves it where it is; what is printed next begins on a new line.
  void Keep();

  [[nodiscard]] bool shown() const { return columns_ > 0; }

 private:
  void Print(const std::string& text);

  std::FILE* to_;
  size_t columns_ = 0;  // of what is shown
};

}  // namespace ksa
