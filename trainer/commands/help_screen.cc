#include "trainer/commands/help_screen.h"

#include <algorithm>
#include <sstream>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "data/tools/terminal_line.h"
#include "trainer/commands/option_values.h"
#include "trainer/observe/wrap.h"

namespace ksa {
namespace {

constexpr size_t kWidestLeft = 28;  // of a name with its placeholder; a longer one has a line of its own
constexpr size_t kContinued = 4;    // further indentation of an example's second line

// A name, and what is said of it.
struct Entry {
  std::string left;
  std::string text;
};

std::string TextOf(const CLI::Option& option) {
  const OptionValues values = ValuesOf(option);
  std::string text = option.get_description();
  if (!values.range.empty()) {
    text += fmt::format("{}{}", text.empty() ? "" : ", ", values.range);
  }
  if (!option.get_default_str().empty()) {
    text += fmt::format(" [{}]", option.get_default_str());
  }
  return text + (option.get_required() && !option.get_positional() ? " (required)" : "");
}

std::string LeftOf(const CLI::Option& option) {
  const OptionValues values = ValuesOf(option);
  const std::string dots = values.many ? "..." : "";
  if (option.get_positional()) {
    return values.placeholder + dots;
  }
  std::string names;
  for (const std::string& name : option.get_snames()) {
    names += "-" + name + ", ";
  }
  names += option.get_lnames().empty() ? "" : "--" + option.get_lnames().front();
  return names + (values.placeholder.empty() ? "" : " " + values.placeholder + dots);
}

std::string Table(const std::string& title, const std::vector<Entry>& entries) {
  if (entries.empty()) {
    return "";
  }
  size_t width = 0;
  for (const Entry& entry : entries) {
    width = ColumnsOf(entry.left) <= kWidestLeft ? std::max(width, ColumnsOf(entry.left)) : width;
  }
  const std::string indent(width + 4, ' ');
  std::string table = "\n" + title + ":\n";
  for (const Entry& entry : entries) {
    std::string line = "  " + entry.left;
    if (ColumnsOf(entry.left) > width) {
      table += line + "\n";
      line.clear();
    }
    for (const std::string& part : Wrap(entry.text, kHelpWidth - indent.size())) {
      line += std::string(indent.size() - std::min(indent.size(), ColumnsOf(line)), ' ') + part;
      table += line + "\n";
      line.clear();
    }
    table += line.empty() ? "" : line + "\n";
  }
  return table;
}

std::vector<const CLI::Option*> Shown(const CLI::App& app, bool positional) {
  return app.get_options([&](const CLI::Option* option) {
    return !option->get_group().empty() && (positional ? option->get_positional() : option->nonpositional()) &&
           option != app.get_help_ptr();
  });
}

std::string Arguments(const CLI::App& app) {
  std::vector<Entry> entries;
  for (const CLI::Option* option : Shown(app, true)) {
    entries.push_back({LeftOf(*option), TextOf(*option)});
  }
  return Table("Arguments", entries);
}

// In the order in which the groups are first met; help comes last.
std::string Options(const CLI::App& app) {
  std::vector<std::pair<std::string, std::vector<Entry>>> groups;
  for (const CLI::Option* option : Shown(app, false)) {
    const std::string& name = option->get_group();
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& known) { return known.first == name; });
    if (group == groups.end()) {
      group = groups.insert(group, {name, {}});
    }
    group->second.push_back({LeftOf(*option), TextOf(*option)});
  }
  std::string text;
  for (const auto& [name, entries] : groups) {
    text += Table(name, entries);
  }
  return text;
}

// Commands below this one, in groups; of a command that has some itself their names.
std::string Commands(const CLI::App& app) {
  std::vector<std::pair<std::string, std::vector<Entry>>> groups;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App* any) { return !any->get_group().empty(); })) {
    std::string text = command->get_description();
    std::string names;
    for (const CLI::App* below : command->get_subcommands([](const CLI::App*) { return true; })) {
      names += (names.empty() ? ": " : ", ") + below->get_name();
    }
    const std::string name = command->get_group() == "Subcommands" ? "Commands" : command->get_group();
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& known) { return known.first == name; });
    if (group == groups.end()) {
      group = groups.insert(group, {name, {}});
    }
    group->second.push_back({command->get_name(), text + names});
  }
  std::string text;
  for (const auto& [name, entries] : groups) {
    text += Table(name, entries);
  }
  return text;
}

// "--set a=b" is one word: an option stays on one line with its first value.
std::vector<std::string> TogetherWithValues(const std::vector<std::string>& words) {
  std::vector<std::string> together;
  bool option = false;
  for (const std::string& word : words) {
    if (option && !word.starts_with("-")) {
      together.back() += " " + word;
      option = false;
    } else {
      together.push_back(word);
      option = word.starts_with("--");
    }
  }
  return together;
}

// An example, broken at spaces outside of quotes.
std::string BreakExample(const std::string& line) {
  if (ColumnsOf(line) <= kHelpWidth) {
    return line + "\n";
  }
  const size_t indent = line.find_first_not_of(' ');
  std::vector<std::string> words = {""};
  char quote = 0;
  for (const char c : line.substr(indent)) {
    quote = quote != 0 ? (c == quote ? '\0' : quote) : (c == '\'' || c == '"' ? c : '\0');
    if (c == ' ' && quote == 0) {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  std::string text;
  std::string current(indent, ' ');
  bool begins = true;
  for (const std::string& word : TogetherWithValues(words)) {
    if (!begins && ColumnsOf(current) + 1 + ColumnsOf(word) > kHelpWidth - 2) {
      text += current + " \\\n";
      current = std::string(indent + kContinued, ' ');
      begins = true;
    }
    current += (begins ? "" : " ") + word;
    begins = false;
  }
  return text + current + "\n";
}

}  // namespace

std::string LayOut(const std::string& text) {
  std::string laid_out;
  std::string paragraph;
  const auto end_paragraph = [&] {
    for (const std::string& line : Wrap(paragraph, kHelpWidth)) {
      laid_out += line + "\n";
    }
    paragraph.clear();
  };
  std::istringstream lines(text);
  bool behind_example = false;
  for (std::string line; std::getline(lines, line);) {
    const bool example = line.starts_with(' ');
    if (line.empty() || example) {
      end_paragraph();
      laid_out += example ? BreakExample(line) : "\n";
    } else {
      laid_out += behind_example ? "\n" : "";
      paragraph += " " + line;
    }
    behind_example = example;
  }
  end_paragraph();
  return laid_out;
}

std::string UsageOf(const CLI::App& app, const std::string& name) {
  std::string usage = name;
  bool more = false;
  for (const CLI::Option* option : Shown(app, true)) {
    usage += option->get_required() ? " " + LeftOf(*option) : " [" + LeftOf(*option) + "]";
  }
  for (const CLI::Option* option : Shown(app, false)) {
    if (option->get_required()) {
      usage += " " + LeftOf(*option);
    }
    more = more || !option->get_required();
  }
  if (!app.get_subcommands([](const CLI::App*) { return true; }).empty()) {
    return usage + " COMMAND ...";
  }
  return usage + (more ? " [OPTIONS]" : "");
}

std::string HelpScreen::make_help(const CLI::App* app, std::string name, CLI::AppFormatMode /*mode*/) const {
  std::string text = BreakExample("usage: " + UsageOf(*app, name));
  text += "\n" + LayOut(app->get_description() + ".");
  text += Commands(*app) + Arguments(*app) + Options(*app);
  const std::string footer = LayOut(app->get_footer());
  return text + (footer.empty() ? "" : "\n" + footer);
}

}  // namespace ksa
