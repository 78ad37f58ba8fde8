// What follows from the list of kinds, and small things of their keys.
#include <algorithm>
#include <iterator>

#include <fmt/core.h>

#include "model/mixers/registry.h"

namespace ksa {
namespace {

// Kinds with chunks in one pattern: the first one's size holds.
void CheckChunks(const MixerDraft& draft, std::vector<MixerProblem>& problems) {
  std::optional<ChunkKey> first;
  for (const MixerKind* kind : MixerKinds()) {
    const bool used = std::any_of(
        draft.used.begin(), draft.used.end(), [&](const auto& entry) { return entry.kind == kind->name(); });
    const std::optional<ChunkKey> chunk = used ? kind->Chunk(draft.model) : std::nullopt;
    if (!chunk || !chunk->size) {
      continue;
    }
    if (!first) {
      first = chunk;
    } else if (*first->size != *chunk->size) {
      problems.push_back(
          {{FullPath(chunk->path)},
           {FullPath(chunk->path), FullPath(first->path)},
           fmt::format(
               "must equal {} {} in a pattern with both kinds, got {}", first->path, *first->size, *chunk->size)});
    }
  }
}

}  // namespace

std::string FullPath(const std::string& path) {
  return "model.attention." + path;
}

std::optional<int32_t> NumberOf(const EntryValues& entry, const std::string& name) {
  const auto found = entry.find(name);
  return found == entry.end() ? std::nullopt : std::optional(static_cast<int32_t>(std::get<int64_t>(found->second)));
}

std::vector<MixerProblem> MixerDraft::RequiredFor(std::string_view kind,
                                                  const std::string& path,
                                                  bool there,
                                                  const std::string& in_entry) const {
  const bool needed = std::any_of(used.begin(), used.end(), [&](const Used& entry) {
    return entry.kind == kind && (in_entry.empty() || entry.values.count(in_entry) == 0);
  });
  if (!needed || there) {
    return {};
  }
  return {{{FullPath(path), FullPath("pattern")},
           {FullPath(path)},
           fmt::format("required, because the pattern has {} layers; give it", kind)}};
}

const MixerKind* FindMixerKind(std::string_view name) {
  for (const MixerKind* kind : MixerKinds()) {
    if (kind->name() == name) {
      return kind;
    }
  }
  return nullptr;
}

std::vector<std::string> MixerKindNames() {
  std::vector<std::string> names;
  for (const MixerKind* kind : MixerKinds()) {
    names.emplace_back(kind->name());
  }
  return names;
}

std::vector<const MixerKind*> KindsOf(const ModelConfig& config) {
  std::vector<const MixerKind*> kinds;
  std::copy_if(MixerKinds().begin(), MixerKinds().end(), std::back_inserter(kinds), [&](const MixerKind* kind) {
    return std::any_of(
        config.layers.begin(), config.layers.end(), [&](const LayerSpec& layer) { return &layer->kind() == kind; });
  });
  return kinds;
}

std::vector<std::string> MixerWarnings(const ModelConfig& config, int32_t sequence_length) {
  std::vector<std::string> warnings;
  for (const MixerKind* kind : KindsOf(config)) {
    const std::vector<std::string> own = kind->Warnings(config, sequence_length);
    warnings.insert(warnings.end(), own.begin(), own.end());
  }
  return warnings;
}

std::vector<MixerProblem> FindMixerProblems(const MixerDraft& draft) {
  std::vector<MixerProblem> problems;
  for (const MixerKind* kind : MixerKinds()) {
    const std::vector<MixerProblem> own = kind->Problems(draft);
    problems.insert(problems.end(), own.begin(), own.end());
  }
  CheckChunks(draft, problems);
  return problems;
}

}  // namespace ksa
