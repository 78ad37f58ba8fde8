// The help of a command: usage, what it does, its arguments and options in groups, examples; 80 columns wide.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace ksa {

inline constexpr size_t kHelpWidth = 80;

// What a command declares is all that is needed: groups (`->group("Text")`), type names, checks and defaults
// (`capture_default_str`, or `default_str` for a default in words). A footer is laid out anew: paragraphs are wrapped,
// indented lines are examples and stay, broken behind a backslash where they are too long.
class HelpScreen : public CLI::FormatterBase {
 public:
  [[nodiscard]] std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;
};

// "ksa data tokenize --input PATH... --output DIR [OPTIONS]"
[[nodiscard]] std::string UsageOf(const CLI::App& app, const std::string& name);

// `text` in lines of at most kHelpWidth columns, as HelpScreen lays out footers.
[[nodiscard]] std::string LayOut(const std::string& text);

}  // namespace ksa
