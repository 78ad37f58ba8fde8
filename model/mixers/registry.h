// The kinds of layers there are. Configuration, parameters, cost, tables and their tests walk over this list.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/mixers/mixer.h"

namespace ksa {

// In the order in which people read them. Alone in registry.cc, so that a test can bring a list of its own.
[[nodiscard]] std::span<const MixerKind* const> MixerKinds();

// Null if there is none of this name.
[[nodiscard]] const MixerKind* FindMixerKind(std::string_view name);

[[nodiscard]] std::vector<std::string> MixerKindNames();

// The kinds that a model has layers of, in that order.
[[nodiscard]] std::vector<const MixerKind*> KindsOf(const ModelConfig& config);

// What the kinds that a model has layers of warn of.
[[nodiscard]] std::vector<std::string> MixerWarnings(const ModelConfig& config, int32_t sequence_length);

// The rules between keys of any kind that are broken: each kind's own, and that all agree on the size of a chunk.
[[nodiscard]] std::vector<MixerProblem> FindMixerProblems(const MixerDraft& draft);

}  // namespace ksa
