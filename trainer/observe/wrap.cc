#include "trainer/observe/wrap.h"

#include <sstream>

#include <fmt/format.h>

#include "data/tools/terminal_line.h"

namespace ksa {

std::vector<std::string> Wrap(const std::string& text, size_t width) {
  std::vector<std::string> lines;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (lines.empty() || ColumnsOf(lines.back()) + 1 + ColumnsOf(word) > width) {
      lines.push_back(word);
    } else {
      lines.back() += " " + word;
    }
  }
  return lines;
}

std::string Folded(const std::string& line, size_t width) {
  constexpr size_t kIndent = 2;
  if (ColumnsOf(line) <= width || width <= kIndent || line.find("  ") != std::string::npos) {
    return line;
  }
  return fmt::format("{}", fmt::join(Wrap(line, width - kIndent), "\n" + std::string(kIndent, ' ')));
}

}  // namespace ksa
