#include "trainer/loop/next_commands.h"

#include "trainer/observe/shell_words.h"

namespace ksa {
namespace {

// A command line without what sets `key` in it: `--set key=value` as two words.
std::vector<std::string> WithoutSetting(const std::vector<std::string>& words, const std::string& key) {
  std::vector<std::string> rest;
  for (const std::string& word : words) {
    if (word.starts_with(key + "=") && !rest.empty() && rest.back() == "--set") {
      rest.pop_back();
    } else {
      rest.push_back(word);
    }
  }
  return rest;
}

// The line that goes on with the run.
std::string GoOn(const Invocation& invocation, const EndState& end) {
  std::vector<std::string> words = invocation.arguments;
  if (end.at_hard_stop) {
    words = WithoutSetting(words, "training.hard_stop");
    words.insert(words.end(), {"--set", "training.hard_stop=none"});
  }
  if (end.ranks == 1) {
    return ShellLine(words);
  }
  return end.at_hard_stop ? "# the same line again with --set training.hard_stop=none goes on"
                          : "# the same line again goes on";
}

}  // namespace

std::vector<std::string> NextCommands(const Config& config, const Invocation& invocation, const EndState& end) {
  std::vector<std::string> commands;
  if (end.stopped || end.at_hard_stop) {
    commands.push_back(GoOn(invocation, end));
  }
  if (!end.has_checkpoint || invocation.arguments.empty()) {
    return commands;
  }
  const std::string& program = invocation.arguments.front();
  if (!config.data.validation.empty()) {
    commands.push_back(ShellLine({program, "eval", config.run.dir}));
  }
  if (end.spells_text) {
    commands.push_back(ShellLine({program, "generate", config.run.dir, "--prompt", "The", "--max-tokens", "200"}));
  }
  return commands;
}

}  // namespace ksa
