// Colours on a terminal, and none anywhere else.
#pragma once

#include <string>
#include <string_view>

namespace ksa {

enum class ColorChoice : int { kAuto, kAlways, kNever };

// Whether what goes to this descriptor (STDOUT_FILENO, STDERR_FILENO) is coloured. `auto`: where the environment has no
// NO_COLOR (no-color.org), and has CLICOLOR_FORCE or it is a terminal that knows colours (TERM is not `dumb`).
[[nodiscard]] bool UsesColor(ColorChoice choice, int descriptor);

// Puts a choice into the environment, for the programs that this one starts.
void HandColorDown(ColorChoice choice);

enum class Style : int {
  kPlain,
  kStrong,   // headings
  kGood,     // validation, what was reached
  kAccent,   // the bar, commands to type
  kWarning,  // the word before a warning
  kError,    // the word before an error
};

// `text` between the codes of the style; as it is where `color` is false.
[[nodiscard]] std::string Paint(Style style, std::string_view text, bool color);

// "ksa: MESSAGE" on stderr.
void PrintError(std::string_view message, ColorChoice choice);

}  // namespace ksa
