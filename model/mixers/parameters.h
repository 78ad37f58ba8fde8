// How a layer declares its parameters, and how it finds them again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/autograd/parameter.h"
#include "model/mixers/model_config.h"

namespace ksa {

// A parameter of text rows and the one that summary rows use instead; null: they use the same.
struct WeightPair {
  Parameter* text = nullptr;
  Parameter* summary = nullptr;
};

// ParameterSpec::initial of what starts as 0.
[[nodiscard]] double InitiallyZero(uint64_t key, uint64_t element);

// Collects specifications in the order in which parameters will lie in the flat buffers.
class ParameterList {
 public:
  ParameterList(const ModelConfig& config, int tensor_ranks, bool sequence_parallel)
      : config_(config), tensor_ranks_(tensor_ranks), sequence_parallel_(sequence_parallel) {}

  [[nodiscard]] int tensor_ranks() const { return tensor_ranks_; }

  // Parameters added from here on are first used by this layer, and their names begin with `prefix`.
  void Begin(int32_t first_layer, const std::string& prefix);

  // An embedding table: a row an id.
  void Embedding(const std::string& name, int64_t rows, ParameterKind kind, bool decays, Placement tensor);

  // A matrix [out, in] of a product; decays. `replicas`: neighbouring tensor ranks that share a shard.
  void Matrix(const std::string& name, int64_t out, int64_t in, ParameterKind kind, Placement tensor, int replicas = 1);

  // Of whole rows: each rank norms all of them and has the whole gradient, or its part of them.
  void RowNorm(const std::string& name, ParameterKind kind);

  // Of every head of `columns`: each rank has its own heads.
  void HeadNorm(const std::string& name, int64_t columns, ParameterKind kind);

  // Taps [channels, 1, taps] of a convolution along the rows; they decay, and start as 0.
  void Taps(const std::string& name, int64_t channels, int64_t taps, Placement tensor, int replicas = 1);

  // Any other; its name and first layer are completed.
  void Add(ParameterSpec spec);

  [[nodiscard]] std::vector<ParameterSpec> Take() { return std::move(specs_); }

 private:
  const ModelConfig& config_;
  int tensor_ranks_;
  bool sequence_parallel_;
  int32_t first_layer_ = -1;
  std::string prefix_;
  std::vector<ParameterSpec> specs_;
};

// The parameters of a layer, by their names in it.
class LayerParameters {
 public:
  LayerParameters(ParameterStore& store, std::string prefix) : store_(store), prefix_(std::move(prefix)) {}

  [[nodiscard]] Parameter* Get(const std::string& name) const { return &store_.Get(prefix_ + name); }

  // Null when there is none.
  [[nodiscard]] Parameter* Find(const std::string& name) const { return store_.Find(prefix_ + name); }

  [[nodiscard]] WeightPair Pair(const std::string& name, const std::string& summary_name) const {
    return {Find(name), Find(summary_name)};
  }

 private:
  ParameterStore& store_;
  std::string prefix_;
};

// "model.layers.3."
[[nodiscard]] std::string LayerPrefix(int32_t layer);

}  // namespace ksa
