// A Config as YAML, through the schema.
#include <algorithm>

#include <fmt/core.h>

#include "trainer/config/load.h"
#include "trainer/config/schema.h"

namespace ksa {
namespace {

// Opens the sections of `path` that `previous` is not in. Two spaces a level.
std::string SectionLines(const std::string& previous, const std::string& path) {
  std::string lines;
  int depth = 0;
  for (size_t end = path.find('.'); end != std::string::npos; end = path.find('.', end + 1)) {
    if (!previous.starts_with(path.substr(0, end + 1))) {
      const size_t begin = path.rfind('.', end - 1) == std::string::npos ? 0 : path.rfind('.', end - 1) + 1;
      lines += fmt::format("{:{}}{}:\n", "", 2 * depth, path.substr(begin, end - begin));
    }
    ++depth;
  }
  return lines;
}

template <typename Comment>
std::string Render(const Config& config, const Comment& comment) {
  Draft draft = ToDraft(config);
  std::string text;
  std::string previous;
  for (const Key& key : Schema()) {
    text += SectionLines(previous, key.path);
    const size_t dot = key.path.rfind('.');
    const auto depth = std::count(key.path.begin(), key.path.end(), '.');
    const std::string line = fmt::format("{:{}}{}: {}", "", 2 * depth, key.path.substr(dot + 1), key.write(draft));
    text += comment(key, line) + "\n";
    previous = key.path;
  }
  return text;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> FlattenConfig(const Config& config) {
  Draft draft = ToDraft(config);
  std::vector<std::pair<std::string, std::string>> values;
  for (const Key& key : Schema()) {
    values.emplace_back(key.path, key.write(draft));
  }
  return values;
}

std::string RenderConfig(const Config& config) {
  return Render(config, [](const Key&, const std::string& line) { return line; });
}

std::string RenderConfigWithOrigins(const LoadedConfig& loaded) {
  return Render(loaded.config, [&](const Key& key, const std::string& line) {
    const auto found = loaded.origins.find(key.path);
    const std::string origin = found == loaded.origins.end() ? "default" : found->second;
    return fmt::format("{:<58}  # {}", line, origin);
  });
}

}  // namespace ksa
