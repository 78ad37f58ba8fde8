#include "model/ksa/parameters.h"

#include <cmath>

#include <fmt/core.h>

#include "kernels/core/error.h"

namespace ksa {
namespace {

class SpecList {
 public:
  SpecList(const ModelConfig& config, int tensor_ranks, bool sequence_parallel)
      : config_(config),
        kv_replicas_(tensor_ranks > config.num_key_value_heads ? tensor_ranks / config.num_key_value_heads : 1),
        sequence_parallel_(sequence_parallel) {
    const int kv_heads = config.num_key_value_heads;
    KSA_CHECK(config.num_attention_heads % tensor_ranks == 0 &&
                  (kv_heads % tensor_ranks == 0 || tensor_ranks % kv_heads == 0),
              "{} query and {} key/value heads over {} tensor ranks",
              config.num_attention_heads,
              kv_heads,
              tensor_ranks);
  }

  // An embedding table: a row an id.
  void Embedding(const std::string& name, int64_t rows, ParameterKind kind, bool decays, Placement tensor) {
    const InitializerRange& range = config_.initializer_range;
    Add({.name = name,
         .shape = {rows, config_.hidden_size},
         .kind = kind,
         .decays = decays,
         .tensor = tensor,
         .init_std = range.fan_in ? 1.0 : range.std});
  }

  void Matrix(const std::string& name, int64_t out, int64_t in, ParameterKind kind, Placement tensor) {
    const InitializerRange& range = config_.initializer_range;
    Add({.name = name,
         .shape = {out, in},
         .kind = kind,
         .decays = true,
         .tensor = tensor,
         .init_std = range.fan_in ? 1.0 / std::sqrt(static_cast<double>(in)) : range.std});
  }

  // Keys or values: whole heads. With more ranks than heads, neighbours share one, and each sees the queries of its own
  // heads only: the gradients of the replicas are parts of a sum.
  void KeyValue(const std::string& name, ParameterKind kind) {
    const int64_t out = int64_t{1} * config_.num_key_value_heads * config_.head_dim;
    Matrix(name, out, config_.hidden_size, kind, Placement::Sharded(0));
    specs_.back().replicas = kv_replicas_;
  }

  // Of whole rows: each rank norms all of them and has the whole gradient, or its part of them.
  void RowNorm(const std::string& name, ParameterKind kind) {
    Add({.name = name,
         .shape = {config_.hidden_size},
         .kind = kind,
         .gradient_partial_over_tensor = sequence_parallel_});
  }

  // Of every head: each rank has its own heads.
  void HeadNorm(const std::string& name, ParameterKind kind) {
    Add({.name = name, .shape = {config_.head_dim}, .kind = kind, .gradient_partial_over_tensor = true});
  }

  // Parameters added from here on are first used by this layer; before: by what precedes the layers.
  void BeginLayer(int32_t layer) { layer_ = layer; }

  [[nodiscard]] std::vector<ParameterSpec> Take() { return std::move(specs_); }

 private:
  void Add(ParameterSpec spec) {
    spec.first_layer = layer_;
    specs_.push_back(std::move(spec));
  }

  const ModelConfig& config_;
  int kv_replicas_;
  bool sequence_parallel_;
  int32_t layer_ = -1;
  std::vector<ParameterSpec> specs_;
};

void AddAttention(const ModelConfig& config, int32_t layer, SpecList& list) {
  const auto name = [layer](const char* part) { return LayerParameterName(layer, part); };
  const int64_t d = config.hidden_size;
  const int64_t q_out = int64_t{1} * config.num_attention_heads * config.head_dim;
  const Placement columns = Placement::Sharded(0);
  const bool own = config.SummariesAttend(layer);
  const IndependentSummary& independent = config.ksa.independent;
  list.RowNorm(name("input_layernorm.weight"), ParameterKind::kNorm);
  if (own && independent.norm) {
    list.RowNorm(name("input_layernorm_summary.weight"), ParameterKind::kSummaryNorm);
  }
  list.Matrix(name("self_attn.q_proj.weight"), q_out, d, ParameterKind::kAttention, columns);
  list.KeyValue(name("self_attn.k_proj.weight"), ParameterKind::kAttention);
  list.KeyValue(name("self_attn.v_proj.weight"), ParameterKind::kAttention);
  if (own && independent.qkv) {
    list.Matrix(name("self_attn.q_proj_summary.weight"), q_out, d, ParameterKind::kSummaryAttention, columns);
    list.KeyValue(name("self_attn.k_proj_summary.weight"), ParameterKind::kSummaryAttention);
    list.KeyValue(name("self_attn.v_proj_summary.weight"), ParameterKind::kSummaryAttention);
  }
  if (config.qk_norm) {
    list.HeadNorm(name("self_attn.q_norm.weight"), ParameterKind::kNorm);
    list.HeadNorm(name("self_attn.k_norm.weight"), ParameterKind::kNorm);
    if (own && independent.qk_norm) {
      list.HeadNorm(name("self_attn.q_norm_summary.weight"), ParameterKind::kSummaryNorm);
      list.HeadNorm(name("self_attn.k_norm_summary.weight"), ParameterKind::kSummaryNorm);
    }
  }
  list.Matrix(name("self_attn.o_proj.weight"), d, q_out, ParameterKind::kAttention, Placement::Sharded(1));
}

void AddMlp(const ModelConfig& config, int32_t layer, SpecList& list) {
  const auto name = [layer](const char* part) { return LayerParameterName(layer, part); };
  const int64_t d = config.hidden_size;
  const int64_t f = config.intermediate_size;
  list.RowNorm(name("post_attention_layernorm.weight"), ParameterKind::kNorm);
  list.Matrix(name("mlp.gate_proj.weight"), f, d, ParameterKind::kMlp, Placement::Sharded(0));
  list.Matrix(name("mlp.up_proj.weight"), f, d, ParameterKind::kMlp, Placement::Sharded(0));
  list.Matrix(name("mlp.down_proj.weight"), d, f, ParameterKind::kMlp, Placement::Sharded(1));
}

}  // namespace

std::string LayerParameterName(int32_t layer, const std::string& name) {
  return fmt::format("model.layers.{}.{}", layer, name);
}

std::vector<ParameterSpec> ParameterSpecs(const ModelConfig& config, int tensor_ranks, bool sequence_parallel) {
  SpecList list(config, tensor_ranks, sequence_parallel);
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
    list.BeginLayer(layer);
    AddAttention(config, layer, list);
    AddMlp(config, layer, list);
  }
  list.BeginLayer(config.num_hidden_layers);
  list.RowNorm("model.norm.weight", ParameterKind::kNorm);
  if (!config.tie_word_embeddings) {
    list.Matrix("lm_head.weight", config.EmbeddingRows(), config.hidden_size, ParameterKind::kHead, vocabulary);
  }
  return list.Take();
}

}  // namespace ksa
