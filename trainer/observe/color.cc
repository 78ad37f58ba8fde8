#include "trainer/observe/color.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include <fmt/core.h>

namespace ksa {
namespace {

std::string_view Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

// The eight colours that every terminal has, each readable on light and on dark.
std::string_view CodeOf(Style style) {
  switch (style) {
    case Style::kPlain:
      return "";
    case Style::kStrong:
      return "\x1b[1m";
    case Style::kGood:
      return "\x1b[32m";
    case Style::kAccent:
      return "\x1b[36m";
    case Style::kWarning:
      return "\x1b[1;33m";
    case Style::kError:
      return "\x1b[1;31m";
  }
  return "";
}

}  // namespace

bool UsesColor(ColorChoice choice, int descriptor) {
  if (choice != ColorChoice::kAuto) {
    return choice == ColorChoice::kAlways;
  }
  if (!Environment("NO_COLOR").empty()) {
    return false;
  }
  const std::string_view forced = Environment("CLICOLOR_FORCE");
  return (!forced.empty() && forced != "0") || (Environment("TERM") != "dumb" && isatty(descriptor) == 1);
}

void HandColorDown(ColorChoice choice) {
  if (choice == ColorChoice::kNever) {
    setenv("NO_COLOR", "1", 1);
  } else if (choice == ColorChoice::kAlways) {
    unsetenv("NO_COLOR");
    setenv("CLICOLOR_FORCE", "1", 1);
  }
}

std::string Paint(Style style, std::string_view text, bool color) {
  const std::string_view code = CodeOf(style);
  if (!color || code.empty()) {
    return std::string(text);
  }
  std::string painted(code);
  painted += text;
  painted += "\x1b[0m";
  return painted;
}

void PrintError(std::string_view message, ColorChoice choice) {
  fmt::print(stderr, "{} {}\n", Paint(Style::kError, "ksa:", UsesColor(choice, STDERR_FILENO)), message);
}

}  // namespace ksa
