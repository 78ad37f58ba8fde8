#include "model/ksa/parameters.h"

#include <cmath>

#include <fmt/core.h>

namespace ksa {
namespace {

class SpecList {
 public:
  explicit SpecList(const ModelConfig& config) : config_(config) {}

  // An embedding table: a row an id.
  void Embedding(const std::string& name, int64_t rows, ParameterKind kind, bool decays, Placement tensor) {
    const InitializerRange& range = config_.initializer_range;
    specs_.push_back({.name = name,
                      .shape = {rows, config_.hidden_size},
                      .kind = kind,
                      .decays = decays,
                      .tensor = tensor,
                      .init_std = range.fan_in ? 1.0 : range.std});
  }

  void Matrix(const std::string& name, int64_t out, int64_t in, ParameterKind kind, Placement tensor) {
    const InitializerRange& range = config_.initializer_range;
    specs_.push_back({.name = name,
                      .shape = {out, in},
                      .kind = kind,
                      .decays = true,
                      .tensor = tensor,
                      .init_std = range.fan_in ? 1.0 / std::sqrt(static_cast<double>(in)) : range.std});
  }

  void Norm(const std::string& name, int64_t size, ParameterKind kind, bool per_head = false) {
    specs_.push_back({.name = name, .shape = {size}, .kind = kind, .gradient_partial_over_tensor = per_head});
  }

  [[nodiscard]] std::vector<ParameterSpec> Take() { return std::move(specs_); }

 private:
  const ModelConfig& config_;
  std::vector<ParameterSpec> specs_;
};

void AddAttention(const ModelConfig& config, int32_t layer, SpecList& list) {
  const auto name = [layer](const char* part) { return LayerParameterName(layer, part); };
  const int64_t d = config.hidden_size;
  const int64_t q_out = int64_t{1} * config.num_attention_heads * config.head_dim;
  const int64_t kv_out = int64_t{1} * config.num_key_value_heads * config.head_dim;
  const Placement columns = Placement::Sharded(0);
  const bool own = config.SummariesAttend(layer);
  const IndependentSummary& independent = config.ksa.independent;
  list.Norm(name("input_layernorm.weight"), d, ParameterKind::kNorm);
  if (own && independent.norm) {
    list.Norm(name("input_layernorm_summary.weight"), d, ParameterKind::kSummaryNorm);
  }
  list.Matrix(name("self_attn.q_proj.weight"), q_out, d, ParameterKind::kAttention, columns);
  list.Matrix(name("self_attn.k_proj.weight"), kv_out, d, ParameterKind::kAttention, columns);
  list.Matrix(name("self_attn.v_proj.weight"), kv_out, d, ParameterKind::kAttention, columns);
  if (own && independent.qkv) {
    list.Matrix(name("self_attn.q_proj_summary.weight"), q_out, d, ParameterKind::kSummaryAttention, columns);
    list.Matrix(name("self_attn.k_proj_summary.weight"), kv_out, d, ParameterKind::kSummaryAttention, columns);
    list.Matrix(name("self_attn.v_proj_summary.weight"), kv_out, d, ParameterKind::kSummaryAttention, columns);
  }
  if (config.qk_norm) {
    list.Norm(name("self_attn.q_norm.weight"), config.head_dim, ParameterKind::kNorm, true);
    list.Norm(name("self_attn.k_norm.weight"), config.head_dim, ParameterKind::kNorm, true);
    if (own && independent.qk_norm) {
      list.Norm(name("self_attn.q_norm_summary.weight"), config.head_dim, ParameterKind::kSummaryNorm, true);
      list.Norm(name("self_attn.k_norm_summary.weight"), config.head_dim, ParameterKind::kSummaryNorm, true);
    }
  }
  list.Matrix(name("self_attn.o_proj.weight"), d, q_out, ParameterKind::kAttention, Placement::Sharded(1));
}

void AddMlp(const ModelConfig& config, int32_t layer, SpecList& list) {
  const auto name = [layer](const char* part) { return LayerParameterName(layer, part); };
  const int64_t d = config.hidden_size;
  const int64_t f = config.intermediate_size;
  list.Norm(name("post_attention_layernorm.weight"), d, ParameterKind::kNorm);
  list.Matrix(name("mlp.gate_proj.weight"), f, d, ParameterKind::kMlp, Placement::Sharded(0));
  list.Matrix(name("mlp.up_proj.weight"), f, d, ParameterKind::kMlp, Placement::Sharded(0));
  list.Matrix(name("mlp.down_proj.weight"), d, f, ParameterKind::kMlp, Placement::Sharded(1));
}

}  // namespace

std::string LayerParameterName(int32_t layer, const std::string& name) {
  return fmt::format("model.layers.{}.{}", layer, name);
}

std::vector<ParameterSpec> ParameterSpecs(const ModelConfig& config) {
  SpecList list(config);
  const Placement vocabulary = Placement::Sharded(0);
  list.Embedding("model.embed_tokens.weight", config.EmbeddingRows(), ParameterKind::kEmbedding, true, vocabulary);
  if (config.HasSummaryRows() && config.ksa.independent.embedding) {
    list.Embedding("summary_embedding.weight",
                   config.ksa.summary_tokens,
                   ParameterKind::kSummaryEmbedding,
                   false,
                   Placement::Replicated());
  }
  for (int32_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    AddAttention(config, layer, list);
    AddMlp(config, layer, list);
  }
  list.Norm("model.norm.weight", config.hidden_size, ParameterKind::kNorm);
  if (!config.tie_word_embeddings) {
    list.Matrix("lm_head.weight", config.EmbeddingRows(), config.hidden_size, ParameterKind::kHead, vocabulary);
  }
  return list.Take();
}

}  // namespace ksa
