#include "model/mixers/parameters.h"

#include <cmath>

#include <fmt/core.h>

namespace ksa {

double InitiallyZero(uint64_t /*key*/, uint64_t /*element*/) {
  return 0.0;
}

void ParameterList::Begin(int32_t first_layer, const std::string& prefix) {
  first_layer_ = first_layer;
  prefix_ = prefix;
}

void ParameterList::Embedding(
    const std::string& name, int64_t rows, ParameterKind kind, bool decays, Placement tensor) {
  const InitializerRange& range = config_.initializer_range;
  Add({.name = name,
       .shape = {rows, config_.hidden_size},
       .kind = kind,
       .decays = decays,
       .tensor = tensor,
       .init_std = range.fan_in ? 1.0 : range.std});
}

void ParameterList::Matrix(
    const std::string& name, int64_t out, int64_t in, ParameterKind kind, Placement tensor, int replicas) {
  const InitializerRange& range = config_.initializer_range;
  Add({.name = name,
       .shape = {out, in},
       .kind = kind,
       .decays = true,
       .tensor = tensor,
       .replicas = replicas,
       .init_std = range.fan_in ? 1.0 / std::sqrt(static_cast<double>(in)) : range.std});
}

void ParameterList::RowNorm(const std::string& name, ParameterKind kind) {
  Add({.name = name, .shape = {config_.hidden_size}, .kind = kind, .gradient_partial_over_tensor = sequence_parallel_});
}

void ParameterList::HeadNorm(const std::string& name, int64_t columns, ParameterKind kind) {
  Add({.name = name, .shape = {columns}, .kind = kind, .gradient_partial_over_tensor = true});
}

void ParameterList::Taps(const std::string& name, int64_t channels, int64_t taps, Placement tensor, int replicas) {
  Add({.name = name,
       .shape = {channels, 1, taps},
       .kind = ParameterKind::kAttention,
       .decays = true,
       .tensor = tensor,
       .replicas = replicas,
       .gradient_partial_over_tensor = tensor == Placement::Replicated(),
       .initial = InitiallyZero});
}

void ParameterList::Add(ParameterSpec spec) {
  spec.name = prefix_ + spec.name;
  spec.first_layer = first_layer_;
  specs_.push_back(std::move(spec));
}

std::string LayerPrefix(int32_t layer) {
  return fmt::format("model.layers.{}.", layer);
}

}  // namespace ksa
