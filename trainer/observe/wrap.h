// Text in lines of a width.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace ksa {

// Words of `text` in lines of at most `width` columns; a longer word has a line of its own.
[[nodiscard]] std::vector<std::string> Wrap(const std::string& text, size_t width);

// A line that is wider than `width` columns, in several, from the second on indented; a row of a table or a command
// (what has two spaces in a row) stays as it is.
[[nodiscard]] std::string Folded(const std::string& line, size_t width);

}  // namespace ksa
