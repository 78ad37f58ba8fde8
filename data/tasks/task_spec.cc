#include "data/tasks/task_spec.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "data/tasks/task.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

bool IsWhole(TaskKey::Type type) {
  return type == TaskKey::Type::kInteger || type == TaskKey::Type::kIntegers;
}

std::string NumberText(double value) {
  return value == std::floor(value) && std::abs(value) < 0x1p53 ? fmt::format("{}", static_cast<int64_t>(value))
                                                                : fmt::format("{}", value);
}

// The names of a list, for messages.
template <typename List>
std::string Names(const List& list) {
  std::vector<std::string> names;
  for (const auto& one : list) {
    names.push_back(one.name);
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string Trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(' ');
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(' ') - first + 1);
}

// Cut at commas outside of brackets.
std::vector<std::string> CutAtCommas(const std::string& text) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (const char c : text) {
    depth += c == '[' ? 1 : c == ']' ? -1 : 0;
    if (c == ',' && depth == 0) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

std::vector<double> ParseValue(const TaskKey& key, const std::string& text) {
  if (key.type == TaskKey::Type::kWord) {
    const auto found = std::find(key.words.begin(), key.words.end(), text);
    if (found == key.words.end()) {
      Fail(ExitCode::kUsage, "--task: {} is one of {}, got '{}'", key.name, fmt::join(key.words, ", "), text);
    }
    return {static_cast<double>(found - key.words.begin())};
  }
  const bool listed = text.starts_with('[') && text.ends_with(']');
  if (listed && !key.is_list()) {
    Fail(ExitCode::kUsage, "--task: {} is one number, got {}", key.name, text);
  }
  std::vector<double> values;
  for (const std::string& part : CutAtCommas(listed ? text.substr(1, text.size() - 2) : text)) {
    const std::string digits = Trimmed(part);
    double value = 0;
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (result.ec != std::errc() || result.ptr != digits.data() + digits.size()) {
      Fail(ExitCode::kUsage, "--task: {} expects a number, got '{}'", key.name, digits);
    }
    values.push_back(value);
  }
  if (const std::string problem = TaskValueProblem(key, values); !problem.empty()) {
    Fail(ExitCode::kUsage, "--task: {} {}", key.name, problem);
  }
  return values;
}

}  // namespace

int64_t TaskSpec::Integer(const std::string& key, int64_t otherwise) const {
  const auto found = values.find(key);
  return found == values.end() ? otherwise : static_cast<int64_t>(found->second.at(0));
}

double TaskSpec::Number(const std::string& key, double otherwise) const {
  const auto found = values.find(key);
  return found == values.end() ? otherwise : found->second.at(0);
}

std::vector<double> TaskSpec::List(const std::string& key, std::vector<double> otherwise) const {
  const auto found = values.find(key);
  return found == values.end() ? std::move(otherwise) : found->second;
}

std::string TaskValueText(const TaskKey& key, const std::vector<double>& value) {
  if (key.type == TaskKey::Type::kWord) {
    return key.words.at(static_cast<size_t>(value.at(0)));
  }
  std::vector<std::string> texts;
  for (const double number : value) {
    texts.push_back(NumberText(number));
  }
  return key.is_list() ? fmt::format("[{}]", fmt::join(texts, ", ")) : texts.at(0);
}

std::string TaskValueProblem(const TaskKey& key, const std::vector<double>& value) {
  if (value.empty()) {
    return "needs at least one number";
  }
  for (const double number : value) {
    if (!std::isfinite(number) || (IsWhole(key.type) && number != std::floor(number))) {
      return fmt::format("must be a {}number, got {}", IsWhole(key.type) ? "whole " : "", number);
    }
    if (number < key.least) {
      return fmt::format("must be at least {}, got {}", NumberText(key.least), NumberText(number));
    }
    if (number > key.most) {
      return fmt::format("must be at most {}, got {}", NumberText(key.most), NumberText(number));
    }
  }
  return {};
}

TaskSpec ParseTaskSpec(const std::string& text) {
  const size_t colon = text.find(':');
  TaskSpec spec;
  spec.kind = text.substr(0, colon);
  const TaskKind* kind = FindTaskKind(spec.kind);
  if (kind == nullptr) {
    Fail(ExitCode::kUsage, "--task: unknown task '{}'; the tasks are {}", spec.kind, Names(TaskKinds()));
  }
  if (colon == std::string::npos) {
    return spec;
  }
  for (const std::string& part : CutAtCommas(text.substr(colon + 1))) {
    const size_t equals = part.find('=');
    const std::string name = Trimmed(part.substr(0, equals));
    const TaskKey* key = kind->FindKey(name);
    if (equals == std::string::npos || key == nullptr) {
      Fail(ExitCode::kUsage,
           "--task: expected key=value after {}:, as in {}:{}=..., got '{}'; its keys are {}",
           spec.kind,
           spec.kind,
           kind->keys.front().name,
           part,
           Names(kind->keys));
    }
    if (!spec.values.emplace(name, ParseValue(*key, Trimmed(part.substr(equals + 1)))).second) {
      Fail(ExitCode::kUsage, "--task: {} is given twice", name);
    }
  }
  return spec;
}

}  // namespace ksa
