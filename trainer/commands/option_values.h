// What the value of an option may be, as its declaration says: for help screens, messages and completion alike.
#pragma once

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

namespace ksa {

struct OptionValues {
  std::string placeholder;           // "FILE", "N", "line|file"; empty: a flag, which takes no value
  std::vector<std::string> choices;  // all words that it may be; empty: any
  std::string range;                 // "1 to 64", "even"; empty: any, or all that the placeholder says
  bool many = false;                 // takes several values behind one name
};

// Of an option or positional. Understands the checks of number_option.h, Choice and Words, and those of CLI11.
[[nodiscard]] OptionValues ValuesOf(const CLI::Option& option);

// "--name" or, of a positional, its placeholder.
[[nodiscard]] std::string NameOf(const CLI::Option& option);

// "a", "a or b", "a, b or c"
[[nodiscard]] std::string OneOf(const std::vector<std::string>& words);

// "expected line, file or blank-line, got 'lines'; did you mean 'line'?"
[[nodiscard]] std::string DescribeNoneOf(const std::vector<std::string>& words, const std::string& got);

// One of these words.
[[nodiscard]] CLI::Validator Words(std::vector<std::string> words);

// One of these words, in this order; the variable gets what stands behind it.
template <typename T>
[[nodiscard]] CLI::Validator Choice(const std::vector<std::pair<std::string, T>>& choices) {
  std::vector<std::string> words;
  for (const auto& choice : choices) {
    words.push_back(choice.first);
  }
  CLI::Validator validator = Words(words);
  validator.operation([choices, words](std::string& text) {
    for (const auto& [word, value] : choices) {
      if (text == word) {
        text = std::to_string(static_cast<int>(value));  // as the parser reads enumerations and truth values
        return std::string();
      }
    }
    return DescribeNoneOf(words, text);
  });
  return validator;
}

}  // namespace ksa
