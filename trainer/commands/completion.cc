#include "trainer/commands/completion.h"

#include <cctype>
#include <memory>
#include <sstream>
#include <vector>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "trainer/commands/option_values.h"
#include "trainer/config/schema.h"

namespace ksa {
namespace {

// Reads the tables before it, in the words that all POSIX shells know.
constexpr const char* kEngine = R"sh(
# _ksa_complete WORD...: what may stand in the place of the last of these words behind `ksa`. Prints a line that says
# which files may, and then a line for each word that may.
_ksa_complete() {
  local at='' pending='' values='' kind=''
  while [ $# -gt 1 ]; do
    case "$1" in
      -*=*) pending='' ;;
      -*) pending=$(_ksa_values "$at" "$1") ;;
      *)
        case "$pending" in
          many*) ;;
          one*) pending='' ;;
          *) if [ -n "$(_ksa_below "$at")" ]; then at="${at:+$at }$1"; fi ;;
        esac
        ;;
    esac
    shift
  done
  case "$1" in
    -*=*) values=$(_ksa_values "$at" "${1%%=*}") ;;
    -*) values="one none $(_ksa_options "$at")" ;;
    *)
      values=$pending
      [ -n "$values" ] || values=$(_ksa_values "$at" '')
      [ -n "$values" ] || values="one none $(_ksa_below "$at")"
      ;;
  esac
  set -- $values
  [ $# -ge 2 ] || set -- one none
  kind=$2
  shift 2
  echo "$kind"
  if [ "$kind" = key ]; then set -- $(_ksa_keys); fi
  if [ $# -gt 0 ]; then printf '%s\n' "$@"; fi
}
)sh";

constexpr const char* kBashGlue = R"sh(
_ksa() {
  local -a words candidates
  local line=${COMP_LINE:0:COMP_POINT} typed
  read -ra words <<<"$line"
  case "$line" in *[[:space:]]) words+=('') ;; esac
  typed=${words[${#words[@]} - 1]}
  mapfile -t candidates < <(_ksa_complete "${words[@]:1}")
  case "$typed" in -*=*) typed=${typed#*=} ;; esac # bash completes behind the =
  COMPREPLY=()
  case "${candidates[0]}" in
    file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$typed") ;;
    dir) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$typed") ;;
    yaml)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -X '!*.y*ml' -- "$typed"; compgen -d -- "$typed")
      ;;
    key) compopt -o nospace 2>/dev/null ;;
  esac
  mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "${candidates[*]:1}" -- "$typed")
}
complete -F _ksa ksa
)sh";

constexpr const char* kZshGlue = R"sh(
_ksa_in_sh() { emulate -L sh; _ksa_complete "$@"; }

_ksa() {
  local -a lines
  lines=("${(@f)$(_ksa_in_sh "${(@)words[2,CURRENT]}")}")
  local kind=$lines[1]
  shift lines
  if [[ $words[CURRENT] == -*=* ]]; then compset -P '*='; fi
  case $kind in
    file) _files ;;
    dir) _files -/ ;;
    yaml) _files -g '*.(yaml|yml)(-.)' ;;
    key) compadd -S '' -a lines; return ;;
  esac
  if (( $#lines )); then compadd -a lines; fi
}
if [ "$funcstack[1]" = _ksa ]; then _ksa "$@"; else compdef _ksa ksa; fi
)sh";

// A command with all words that lead to it: "data tokenize".
struct Command {
  std::string path;
  const CLI::App* app;
};

std::vector<const CLI::App*> Below(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

std::vector<Command> CommandsFrom(const CLI::App& app, const std::string& path) {
  std::vector<Command> commands = {{path, &app}};
  for (const CLI::App* below : Below(app)) {
    for (Command& command : CommandsFrom(*below, path + (path.empty() ? "" : " ") + below->get_name())) {
      commands.push_back(std::move(command));
    }
  }
  return commands;
}

// "many dir", "one none line file", "one file byte": how many values, which files, which words.
std::string ValueText(const CLI::Option& option) {
  const OptionValues values = ValuesOf(option);
  std::string files = "none";
  std::string words;
  std::istringstream parts(values.placeholder);
  for (std::string part; std::getline(parts, part, '|');) {
    if (part == "FILE" || part == "PATH") {
      files = "file";
    } else if (part == "DIR" || part == "RUN" || part == "CKPT" || part == "RUNS") {
      files = "dir";
    } else if (part == "CONFIG" || part == "SWEEP") {
      files = "yaml";
    } else if (part == "KEY=VALUE") {
      files = "key";
    } else if (!part.empty() && std::islower(static_cast<unsigned char>(part.front())) != 0) {
      words += " " + part;
    }
  }
  // --set takes one value here: a file name may follow it.
  return fmt::format("{} {}{}", values.many && files != "key" ? "many" : "one", files, words);
}

std::vector<std::string> OptionNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    if (option->nonpositional() && !option->get_group().empty()) {
      for (const std::string& name : option->get_lnames()) {
        names.push_back("--" + name);
      }
    }
  }
  return names;
}

std::string Function(const std::string& comment,
                     const std::string& name,
                     const std::string& subject,
                     const std::string& cases) {
  return fmt::format("\n# {}\n{}() {{\n  case \"{}\" in\n{}  esac\n}}\n", comment, name, subject, cases);
}

std::string Case(const std::string& pattern, const std::string& answer) {
  return answer.empty() ? "" : fmt::format("    '{}') echo '{}' ;;\n", pattern, answer);
}

std::string Tables(const CLI::App& app) {
  std::string below;
  std::string options;
  std::string values;
  std::string names;
  for (const Command& command : CommandsFrom(app, "")) {
    std::vector<std::string> words;
    for (const CLI::App* sub : Below(*command.app)) {
      words.push_back(sub->get_name());
    }
    names += words.empty() ? "; " + command.path : "";
    below += Case(command.path, fmt::format("{}", fmt::join(words, " ")));
    options += Case(command.path, fmt::format("{}", fmt::join(OptionNames(*command.app), " ")));
    for (const CLI::Option* option : command.app->get_options()) {
      if (ValuesOf(*option).placeholder.empty() || option->get_group().empty()) {
        continue;
      }
      values += Case(command.path + " " + (option->get_positional() ? "" : NameOf(*option)), ValueText(*option));
    }
  }
  std::string keys;
  for (const Key& key : Schema()) {
    keys += " " + key.path + "=";
  }
  return "# Commands: " + names.substr(2) + "\n" +
         Function("The commands below a command, of which '' is ksa itself.", "_ksa_below", "$1", below) +
         Function("The options of a command.", "_ksa_options", "$1", options) +
         Function("The values of an option of a command, and of its arguments.", "_ksa_values", "$1 $2", values) +
         fmt::format("\n# What --set takes.\n_ksa_keys() {{\n  echo '{}'\n}}\n", keys.substr(1));
}

}  // namespace

std::string BashCompletion(const CLI::App& app) {
  return "# bash completion of ksa, made by `ksa completion bash`.\n" + Tables(app) + kEngine + kBashGlue;
}

std::string ZshCompletion(const CLI::App& app) {
  return "#compdef ksa\n# zsh completion of ksa, made by `ksa completion zsh`.\n" + Tables(app) + kEngine + kZshGlue;
}

void AddCompletionCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("completion", "Completion of commands, options and keys in a shell");
  const auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "the shell")->required()->check(Words({"bash", "zsh"}));
  command->footer(
      "Examples:\n"
      "  source <(ksa completion bash)      # in this shell, or in ~/.bashrc\n"
      "  ksa completion bash > ~/.local/share/bash-completion/completions/ksa\n"
      "  ksa completion zsh > ~/.zfunc/_ksa      # with fpath=(~/.zfunc $fpath) before compinit in ~/.zshrc\n"
      "\n"
      "Completes commands, options, their words, files, run folders, and behind --set the keys of a configuration. "
      "For\n"
      "all users the file belongs into /usr/share/bash-completion/completions or /usr/share/zsh/vendor-completions.\n"
      "Make it anew when ksa is replaced by another version.");
  command->callback([&app, shell] { fmt::print("{}", *shell == "bash" ? BashCompletion(app) : ZshCompletion(app)); });
}

}  // namespace ksa
