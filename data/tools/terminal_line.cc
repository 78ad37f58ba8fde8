#include "data/tools/terminal_line.h"

#include <sys/ioctl.h>

#include <algorithm>

#include <fmt/core.h>

namespace ksa {
namespace {

constexpr size_t kFewestCells = 8;
constexpr size_t kMostCells = 40;

std::string JoinUpTo(const std::vector<LinePart>& parts, int rank) {
  std::string text;
  for (const LinePart& part : parts) {
    if (part.rank <= rank && !part.text.empty()) {
      text += (text.empty() ? "" : " | ") + part.text;
    }
  }
  return text;
}

// The first `columns` characters.
std::string Cut(const std::string& text, size_t columns) {
  size_t end = 0;
  for (; end < text.size() && ColumnsOf(std::string_view(text).substr(0, end + 1)) <= columns; ++end) {
  }
  return text.substr(0, end);
}

}  // namespace

size_t ColumnsOf(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

std::string FormatBar(double done, const std::vector<LinePart>& parts, int width) {
  const size_t columns = width > 0 ? static_cast<size_t>(width) : 0;
  int rank = 0;
  for (const LinePart& part : parts) {
    rank = std::max(rank, part.rank);
  }
  std::string text = JoinUpTo(parts, rank);
  while (ColumnsOf(text) > columns && rank > 0) {
    text = JoinUpTo(parts, --rank);
  }
  const size_t taken = ColumnsOf(text);
  if (columns < taken + kFewestCells + 3) {
    return Cut(text, columns);
  }
  const size_t cells = std::min(columns - taken - 3, kMostCells);
  const auto full = static_cast<size_t>(std::clamp(done, 0.0, 1.0) * static_cast<double>(cells));
  return fmt::format("[{}{}] {}", std::string(full, '#'), std::string(cells - full, '.'), text);
}

// Less the last column, where terminals disagree about when a line is full.
int TerminalLine::Width() const {
  constexpr int kUnknown = 79;
  winsize size{};
  return ioctl(fileno(to_), TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : kUnknown;
}

void TerminalLine::Show(const std::string& text, const std::string& painted) {
  Clear();
  Print(painted);
  columns_ = ColumnsOf(text);
}

// The cursor is in the last of the rows.
void TerminalLine::Clear() {
  if (columns_ == 0) {
    return;
  }
  const size_t rows_above = (columns_ - 1) / (static_cast<size_t>(Width()) + 1);
  Print("\r" + (rows_above > 0 ? fmt::format("\x1b[{}A\x1b[J", rows_above) : std::string("\x1b[K")));
  columns_ = 0;
}

void TerminalLine::Keep() {
  if (columns_ > 0) {
    Print("\n");
    columns_ = 0;
  }
}

void TerminalLine::Print(const std::string& text) {
  static_cast<void>(std::fwrite(text.data(), 1, text.size(), to_));
  static_cast<void>(std::fflush(to_));
}

}  // namespace ksa
