#include "trainer/commands/option_values.h"

#include <algorithm>
#include <cctype>
#include <sstream>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "trainer/config/problems.h"

namespace ksa {
namespace {

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) {
    parts.push_back(part);
  }
  return parts;
}

// The words of "{auto,cpu,cuda}" and of "value in {bpe->0,unigram->1} OR {0,1}", which are CLI11's own.
std::vector<std::string> WordsInBraces(const std::string& check) {
  const size_t open = check.find('{');
  const size_t close = check.find('}');
  std::vector<std::string> words;
  if (open != std::string::npos && close != std::string::npos) {
    for (const std::string& word : Split(check.substr(open + 1, close - open - 1), ',')) {
      words.push_back(word.substr(0, word.find("->")));
    }
  }
  return words;
}

void Understand(const std::string& check, OptionValues& values) {
  if (check.find('{') != std::string::npos) {
    values.choices = WordsInBraces(check);
    return;
  }
  if (check.find('|') != std::string::npos) {
    values.choices = Split(check, '|');
    return;
  }
  std::string range = check;
  const size_t open = check.find(" in [");  // "INT in [1 - 64]", CLI11's own
  const size_t dash = check.find(" - ");
  if (open != std::string::npos && dash != std::string::npos && check.ends_with(']')) {
    const size_t begin = check.find('[') + 1;
    range = check.substr(begin, dash - begin) + " to " + check.substr(dash + 3, check.size() - dash - 4);
  }
  values.range += (values.range.empty() ? "" : ", ") + range;
}

// What CLI11 calls the types of variables.
std::string Placeholder(const std::string& type) {
  if (type == "INT" || type == "UINT") {
    return "N";
  }
  return type == "FLOAT" ? "X" : type;
}

}  // namespace

OptionValues ValuesOf(const CLI::Option& option) {
  OptionValues values;
  if (option.get_items_expected_max() == 0) {  // a flag
    return values;
  }
  values.many = option.get_expected_max() >= CLI::detail::expected_max_vector_size;
  const std::string full = option.get_type_name();  // "TYPE:check:check"
  const std::vector<std::string> parts = Split(full, ':');
  for (size_t i = 1; i < parts.size(); ++i) {
    Understand(parts[i], values);
  }
  values.placeholder = values.choices.empty() ? Placeholder(parts.empty() ? "" : parts[0])
                                              : fmt::format("{}", fmt::join(values.choices, "|"));
  if (values.placeholder == "TEXT" && option.get_positional()) {
    values.placeholder = option.get_name(true);
    std::transform(values.placeholder.begin(), values.placeholder.end(), values.placeholder.begin(), [](char c) {
      return static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    });
  }
  return values;
}

std::string NameOf(const CLI::Option& option) {
  if (!option.get_lnames().empty()) {
    return "--" + option.get_lnames().front();
  }
  return option.get_snames().empty() ? ValuesOf(option).placeholder : "-" + option.get_snames().front();
}

std::string OneOf(const std::vector<std::string>& words) {
  if (words.size() < 2) {
    return words.empty() ? "" : words.front();
  }
  return fmt::format("{} or {}", fmt::join(words.begin(), words.end() - 1, ", "), words.back());
}

std::string DescribeNoneOf(const std::vector<std::string>& words, const std::string& got) {
  const std::string nearest = NearestName(got, words);
  return fmt::format("expected {}, got {}{}",
                     OneOf(words),
                     Quoted(got),
                     nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
}

CLI::Validator Words(std::vector<std::string> words) {
  const std::string description = fmt::format("{}", fmt::join(words, "|"));
  return {[words = std::move(words)](const std::string& text) {
            return std::find(words.begin(), words.end(), text) != words.end() ? std::string()
                                                                              : DescribeNoneOf(words, text);
          },
          description};
}

}  // namespace ksa
