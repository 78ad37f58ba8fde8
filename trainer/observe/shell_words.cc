#include "trainer/observe/shell_words.h"

#include <algorithm>
#include <string_view>

namespace ksa {
namespace {

bool IsPlain(char c) {
  constexpr std::string_view kPlain = "%+,-./:=@_";  // beside letters and digits; a leading ~ or = is no plain one
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         kPlain.find(c) != std::string_view::npos;
}

}  // namespace

std::string ShellWord(const std::string& word) {
  if (!word.empty() && word.front() != '=' && std::all_of(word.begin(), word.end(), IsPlain)) {
    return word;
  }
  std::string quoted = "'";
  for (const char c : word) {
    quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return quoted + "'";
}

std::string ShellLine(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) {
    line += (line.empty() ? "" : " ") + ShellWord(word);
  }
  return line;
}

}  // namespace ksa
