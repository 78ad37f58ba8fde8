#include "model/mixers/mla/mla_mixer.h"

#include <algorithm>
#include <cmath>

#include <fmt/core.h>

namespace ksa {
namespace {

const MlaConfig& SettingsOf(const ModelConfig& config) {
  return config.mixers.Of<MlaConfig>();
}

int64_t Heads(const ModelConfig& config) {
  return config.num_attention_heads;
}

double MatrixStd(const ModelConfig& config) {
  const InitializerRange& range = config.initializer_range;
  return range.fan_in ? 1.0 / std::sqrt(static_cast<double>(config.hidden_size)) : range.std;
}

// A matrix or norm that every tensor rank has, and uses for its own heads.
void AddShared(const std::string& name, const Shape& shape, ParameterKind kind, double std, ParameterList& list) {
  list.Add({.name = name,
            .shape = shape,
            .kind = kind,
            .decays = shape.rank() > 1,
            .gradient_partial_over_tensor = true,
            .init_std = std});
}

}  // namespace

void MlaMixer::AddParameters(const ModelConfig& config, bool own, ParameterList& list) const {
  const MlaConfig& mla = SettingsOf(config);
  const int64_t d = config.hidden_size;
  const int64_t q_columns = Heads(config) * mla.key_dim();
  const int64_t latent = mla.kv_lora_rank + mla.qk_rope_head_dim;
  const IndependentSummary& independent = config.ksa.independent;
  const auto projections = [&](const std::string& suffix, ParameterKind kind) {
    if (mla.q_lora_rank) {
      AddShared("self_attn.q_a_proj" + suffix + ".weight", {*mla.q_lora_rank, d}, kind, MatrixStd(config), list);
    } else {
      list.Matrix("self_attn.q_proj" + suffix + ".weight", q_columns, d, kind, Placement::Sharded(0));
    }
    AddShared("self_attn.kv_a_proj_with_mqa" + suffix + ".weight", {latent, d}, kind, MatrixStd(config), list);
  };
  const auto norms = [&](const std::string& suffix, ParameterKind kind) {
    if (mla.q_lora_rank) {
      AddShared("self_attn.q_a_layernorm" + suffix + ".weight", {*mla.q_lora_rank}, kind, 0.0, list);
    }
    AddShared("self_attn.kv_a_layernorm" + suffix + ".weight", {mla.kv_lora_rank}, kind, 0.0, list);
  };
  projections("", ParameterKind::kAttention);
  if (mla.q_lora_rank) {
    list.Matrix(
        "self_attn.q_b_proj.weight", q_columns, *mla.q_lora_rank, ParameterKind::kAttention, Placement::Sharded(0));
  }
  if (own && independent.qkv) {
    projections("_summary", ParameterKind::kSummaryAttention);
  }
  norms("", ParameterKind::kNorm);
  if (own && independent.qk_norm) {
    norms("_summary", ParameterKind::kSummaryNorm);
  }
  if (options().short_conv > 0) {
    list.Taps("self_attn.q_conv1d.weight", q_columns, options().short_conv, Placement::Sharded(0));
    list.Taps("self_attn.kv_a_conv1d.weight", latent, options().short_conv, Placement::Replicated());
  }
  list.Matrix("self_attn.kv_b_proj.weight",
              Heads(config) * (mla.qk_nope_head_dim + mla.v_head_dim),
              mla.kv_lora_rank,
              ParameterKind::kAttention,
              Placement::Sharded(0));
  list.Matrix(
      "self_attn.o_proj.weight", d, Heads(config) * mla.v_head_dim, ParameterKind::kAttention, Placement::Sharded(1));
}

std::unique_ptr<BoundMixer> MlaMixer::Bind(const ModelConfig& config,
                                           const LayerParameters& parameters,
                                           RopeTables& ropes) const {
  const auto pair = [&](const std::string& part) {
    return parameters.Pair("self_attn." + part + ".weight", "self_attn." + part + "_summary.weight");
  };
  const auto find = [&](const std::string& part) { return parameters.Find("self_attn." + part + ".weight"); };
  const MlaWeights weights = {.q = pair("q_proj"),
                              .q_a = pair("q_a_proj"),
                              .q_norm = pair("q_a_layernorm"),
                              .q_b = find("q_b_proj"),
                              .kv_a = pair("kv_a_proj_with_mqa"),
                              .kv_norm = pair("kv_a_layernorm"),
                              .kv_b = find("kv_b_proj"),
                              .q_conv = find("q_conv1d"),
                              .kv_conv = find("kv_a_conv1d"),
                              .out = find("o_proj")};
  const MlaConfig& mla = SettingsOf(config);
  return std::make_unique<BoundMla>(weights, mla, window(), options(), ropes.Of(mla.qk_rope_head_dim));
}

std::string MlaMixer::TensorProblem(const ModelConfig& config, int32_t ranks) const {
  return Heads(config) % ranks == 0
             ? std::string()
             : fmt::format("{} does not divide num_attention_heads {}", ranks, config.num_attention_heads);
}

// Entries as in any layer with this window; each is a latent with its rotary part.
CacheSize MlaMixer::CacheAt(const ModelConfig& config, int64_t tokens, DType dtype) const {
  const MlaConfig& mla = SettingsOf(config);
  const int64_t entry = mla.kv_lora_rank + mla.qk_rope_head_dim;
  CacheSize cache = AttentionMixer::CacheAt(config, tokens, dtype);
  cache.bytes = cache.entries * entry * SizeOf(dtype);
  if (options().short_conv > 0) {
    const int64_t rows = std::min<int64_t>(tokens, options().short_conv - 1);
    cache.bytes += rows * (Heads(config) * mla.key_dim() + entry) * SizeOf(dtype);
  }
  return cache;
}

}  // namespace ksa
