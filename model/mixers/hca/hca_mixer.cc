#include "model/mixers/hca/hca_mixer.h"

#include <algorithm>
#include <string>

namespace ksa {
namespace {

constexpr const char* kPrefix = "self_attn.compressor.";

const HcaConfig& SettingsOf(const ModelConfig& config) {
  return config.mixers.Of<HcaConfig>();
}

int64_t KeyColumns(const ModelConfig& config) {
  return int64_t{1} * config.num_key_value_heads * config.head_dim;
}

// Matrices of the compressor, [g·e, d] each.
int64_t Matrices(const HcaConfig& hca) {
  return (hca.independent_kv ? 2 : 0) + (hca.gate == HcaGate::kSeparate ? 2 : 1);
}

}  // namespace

void HcaMixer::AddParameters(const ModelConfig& config, bool own, ParameterList& list) const {
  AttentionMixer::AddParameters(config, own, list);
  const HcaConfig& hca = SettingsOf(config);
  const int64_t columns = KeyColumns(config);
  const int replicas = KeyReplicas(config, list.tensor_ranks());
  const auto add = [&](const char* name) {
    list.Matrix(std::string(kPrefix) + name + ".weight",
                columns,
                config.hidden_size,
                ParameterKind::kAttention,
                Placement::Sharded(0),
                replicas);
  };
  const auto add_bias = [&](const char* name) {
    list.Add({.name = std::string(kPrefix) + name,
              .shape = {hca.chunk_size, columns},
              .kind = ParameterKind::kAttention,
              .tensor = Placement::Sharded(1),
              .replicas = replicas,
              .initial = InitiallyZero});
  };
  if (hca.independent_kv) {
    add("k_proj");
    add("v_proj");
  }
  add("gate_proj");
  add_bias("position_bias");
  if (hca.gate == HcaGate::kSeparate) {
    add("gate_proj_value");
    add_bias("position_bias_value");
  }
  if (config.qk_norm) {
    list.HeadNorm(std::string(kPrefix) + "k_norm.weight", config.head_dim, ParameterKind::kNorm);
  }
  if (hca.value_norm) {
    list.HeadNorm(std::string(kPrefix) + "v_norm.weight", config.head_dim, ParameterKind::kNorm);
  }
}

std::unique_ptr<BoundMixer> HcaMixer::Bind(const ModelConfig& config,
                                           const LayerParameters& parameters,
                                           RopeTables& ropes) const {
  const auto find = [&](const char* name) { return parameters.Find(std::string(kPrefix) + name); };
  const CompressorWeights compressor = {.k = find("k_proj.weight"),
                                        .v = find("v_proj.weight"),
                                        .gate = {find("gate_proj.weight"), find("gate_proj_value.weight")},
                                        .bias = {find("position_bias"), find("position_bias_value")},
                                        .norm = {find("k_norm.weight"), find("v_norm.weight")}};
  return std::make_unique<BoundHca>(
      SetupOf(config, parameters, ropes), compressor, SettingsOf(config).compressed_positions);
}

// The text of the window, an entry for every chunk that has ended, and of the open one what will be pooled: its rows of
// the compressor's products, and where the text's own keys are pooled those before norm and rotation.
CacheSize HcaMixer::CacheAt(const ModelConfig& config, int64_t tokens, DType dtype) const {
  const HcaConfig& hca = SettingsOf(config);
  CacheSize cache = AttentionMixer::CacheAt(config, tokens, dtype);
  const int64_t entries = tokens / hca.chunk_size;
  const int64_t open = std::min<int64_t>(tokens, hca.chunk_size - 1);
  const int64_t columns = Matrices(hca) + (hca.independent_kv ? 0 : 1);
  cache.entries += entries;
  cache.bytes += (2 * entries + columns * open) * KeyColumns(config) * SizeOf(dtype);
  return cache;
}

}  // namespace ksa
