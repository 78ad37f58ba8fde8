#include "trainer/commands/command_line.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string_view>

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "trainer/commands/help_screen.h"
#include "trainer/commands/option_values.h"
#include "trainer/config/problems.h"

namespace ksa {
namespace {

// The commands that were met on the line, from the program on.
std::vector<const CLI::App*> Met(const CLI::App& app) {
  std::vector<const CLI::App*> chain = {&app};
  while (!chain.back()->get_subcommands().empty()) {
    chain.push_back(chain.back()->get_subcommands().front());
  }
  return chain;
}

// "ksa data tokenize"
std::string FullName(const CLI::App& app) {
  const CLI::App* parent = app.get_parent();
  return (parent == nullptr ? "" : FullName(*parent) + " ") + app.get_name();
}

[[noreturn]] void FailUsage(const CLI::App& app, const std::string& what) {
  Fail(ExitCode::kUsage, "{}\n`{} --help` shows what it takes, with examples", what, FullName(app));
}

std::vector<std::string> CommandsOf(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

// "data tokenize" for "tokenize": what is meant may lie deeper, or be said of another level.
std::string Elsewhere(const CLI::App& app, const std::string& word) {
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    for (const std::string& name : CommandsOf(*command)) {
      if (name == word) {
        return command->get_name() + " " + name;
      }
    }
  }
  return "";
}

[[noreturn]] void FailUnknownCommand(const CLI::App& app, const std::string& word) {
  const std::vector<std::string> names = CommandsOf(app);
  std::string nearest = NearestName(word, names);
  nearest = nearest.empty() ? Elsewhere(app, word) : nearest;
  if (nearest.empty()) {
    FailUsage(app, fmt::format("unknown command {}; {} has {}", Quoted(word), FullName(app), OneOf(names)));
  }
  FailUsage(app, fmt::format("unknown command {}; did you mean '{} {}'?", Quoted(word), FullName(app), nearest));
}

[[noreturn]] void FailUnknownOption(const CLI::App& app, const std::string& argument) {
  const std::string name = argument.substr(0, argument.find('='));
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& known : option->get_lnames()) {
      names.push_back(known);
    }
  }
  const std::string bare =
      name.substr(name.find_first_not_of('-') == std::string::npos ? 0 : name.find_first_not_of('-'));
  const std::string nearest = NearestName(bare, names);
  FailUsage(app,
            fmt::format("{} has no option {}{}",
                        FullName(app),
                        Quoted(name),
                        nearest.empty() ? "" : fmt::format("; did you mean '--{}'?", nearest)));
}

bool LooksLikeOption(const std::string& argument) {
  return argument.size() > 1 && argument.starts_with('-');
}

// What nobody took: an option or a command that does not exist, or one argument too many.
void RefuseRemaining(const CLI::App& app) {
  for (const CLI::App* command : Met(app)) {
    const std::vector<std::string> left = command->remaining(false);
    if (left.empty()) {
      continue;
    }
    const bool wants_command = !CommandsOf(*command).empty() && command->get_subcommands().empty();
    const auto word = std::find_if_not(left.begin(), left.end(), LooksLikeOption);
    if (wants_command && word != left.end()) {
      FailUnknownCommand(*command, *word);
    }
    const auto option = std::find_if(left.begin(), left.end(), LooksLikeOption);
    if (option != left.end()) {
      FailUnknownOption(*command, *option);
    }
    FailUsage(*command, fmt::format("{} takes no argument {}", FullName(*command), Quoted(left.front())));
  }
}

// The option that an error of CLI11 is about: it names it somewhere in its text.
const CLI::Option* OptionIn(const CLI::App& app, const std::string& text) {
  const CLI::Option* found = nullptr;
  size_t longest = 0;
  for (const CLI::Option* option : app.get_options()) {
    const std::string name = option->get_positional() ? option->get_name(true) : NameOf(*option);
    if (name.size() > longest && text.find(name) != std::string::npos) {
      found = option;
      longest = name.size();
    }
  }
  return found;
}

std::string WithPlaceholder(const CLI::Option& option) {
  const OptionValues values = ValuesOf(option);
  return option.get_positional() || values.placeholder.empty() ? NameOf(option)
                                                               : NameOf(option) + " " + values.placeholder;
}

std::string Missing(const CLI::App& app, const std::string& text) {
  const CLI::Option* option = OptionIn(app, text);
  if (option == nullptr) {
    return text;
  }
  return fmt::format("{} needs {} ({})", FullName(app), WithPlaceholder(*option), option->get_description());
}

std::string WrongNumber(const CLI::App& app, const std::string& text) {
  const CLI::Option* option = OptionIn(app, text);
  if (option == nullptr) {
    return text;
  }
  if (ValuesOf(*option).placeholder.empty()) {
    return fmt::format("{} takes no value", NameOf(*option));
  }
  if (option->count() > 1) {
    return fmt::format("{} is given {} times; give it once", NameOf(*option), option->count());
  }
  return fmt::format("{} needs a value: {} ({})", NameOf(*option), WithPlaceholder(*option), option->get_description());
}

// What stands between the given pieces of `text`, before the first and behind the last; empty where they are not in it.
std::vector<std::string> Between(const std::string& text, const std::vector<std::string_view>& pieces) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (const std::string_view piece : pieces) {
    const size_t end = text.find(piece, begin);
    if (end == std::string::npos) {
      return {};
    }
    parts.push_back(text.substr(begin, end - begin));
    begin = end + piece.size();
  }
  parts.push_back(text.substr(begin));
  return parts;
}

// Messages of this program's checks are good as they are; CLI11's own are said in our words.
std::string WrongValue(const CLI::App& app, const std::string& text) {
  const CLI::Option* option = OptionIn(app, text.substr(0, text.find(": ")));
  if (const auto parts = Between(text, {": Value ", " not in range ", " to "}); !parts.empty()) {
    return fmt::format("{}: expected a number from {} to {}, got {}", parts[0], parts[2], parts[3], Quoted(parts[1]));
  }
  if (const auto parts = Between(text, {": ", " not in {"}); option != nullptr && !parts.empty()) {
    return fmt::format("{}: {}", parts[0], DescribeNoneOf(ValuesOf(*option).choices, parts[1]));
  }
  if (const auto parts = Between(text, {"Could not convert: ", " = "}); !parts.empty()) {
    option = OptionIn(app, parts[1]);
    const std::string placeholder = option == nullptr ? "" : ValuesOf(*option).placeholder;
    return fmt::format("{}: expected {}, got {}",
                       parts[1],
                       placeholder == "N"   ? "a whole number"
                       : placeholder == "X" ? "a number"
                                            : "another value",
                       Quoted(parts[2]));
  }
  return text;
}

[[noreturn]] void FailParse(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = *Met(app).back();
  const std::string text = error.what();
  const std::string kind = error.get_name();
  if (kind != "ValidationError" && kind != "ConversionError") {
    RefuseRemaining(app);  // often the cause of what else is missing
  }
  if (kind == "RequiredError") {
    FailUsage(command, Missing(command, text));
  }
  if (kind == "ArgumentMismatch") {
    FailUsage(command, WrongNumber(command, text));
  }
  if (kind == "ExcludesError") {
    const std::vector<std::string> parts = Between(text, {" excludes "});
    FailUsage(command,
              parts.empty() ? text : fmt::format("{} and {} exclude each other; give one of them", parts[0], parts[1]));
  }
  FailUsage(command, WrongValue(command, text));
}

// The last command on the line that wants another one behind it; null where none is missing.
const CLI::App* CommandIsMissing(const CLI::App& app) {
  const CLI::App* last = Met(app).back();
  return !CommandsOf(*last).empty() && last->remaining(false).empty() ? last : nullptr;
}

}  // namespace

void GroupCommands(CLI::App& app, const std::string& group, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    app.get_subcommand(name)->group(group);
  }
}

void PrepareCommandLine(CLI::App& app) {
  app.formatter(std::make_shared<HelpScreen>());
  app.set_help_flag("-h,--help", "show this");
}

void ParseCommandLine(CLI::App& app, std::vector<std::string> arguments) {
  if (!arguments.empty() && arguments.front() == "help") {
    arguments.erase(arguments.begin());
    arguments.emplace_back("--help");
  }
  std::reverse(arguments.begin(), arguments.end());  // the parser takes them from the back
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
  } catch (const CLI::CallForVersion& version) {
    fmt::print("{}\n", version.what());
  } catch (const CLI::ParseError& error) {
    if (const CLI::App* command = CommandIsMissing(app)) {
      fmt::print(stderr, "{}\n", app.help());
      Fail(ExitCode::kUsage, "`{}` needs a command: {}", FullName(*command), OneOf(CommandsOf(*command)));
    }
    FailParse(app, error);
  }
}

}  // namespace ksa
