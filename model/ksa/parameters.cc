#include "model/ksa/parameters.h"

#include "model/mixers/mixer.h"

namespace ksa {
namespace {

void AddMlp(const ModelConfig& config, ParameterList& list) {
  const int64_t d = config.hidden_size;
  const int64_t f = config.intermediate_size;
  list.RowNorm("post_attention_layernorm.weight", ParameterKind::kNorm);
  list.Matrix("mlp.gate_proj.weight", f, d, ParameterKind::kMlp, Placement::Sharded(0));
  list.Matrix("mlp.up_proj.weight", f, d, ParameterKind::kMlp, Placement::Sharded(0));
  list.Matrix("mlp.down_proj.weight", d, f, ParameterKind::kMlp, Placement::Sharded(1));
}

void AddBlock(const ModelConfig& config, int32_t layer, ParameterList& list) {
  const bool own = config.SummariesAttend(layer);
  list.RowNorm("input_layernorm.weight", ParameterKind::kNorm);
  if (own && config.ksa.independent.norm) {
    list.RowNorm("input_layernorm_summary.weight", ParameterKind::kSummaryNorm);
  }
  config.layers[static_cast<size_t>(layer)]->AddParameters(config, own, list);
  if (config.intermediate_size > 0) {
    AddMlp(config, list);
  }
}

bool IsOfSummaries(const std::string& name) {
  return name == "summary_embedding.weight" || name.find("_summary.") != std::string::npos ||
         name.find("compressor.") != std::string::npos;
}

}  // namespace

void SetTrained(std::vector<ParameterSpec>& specs, Trainable trainable) {
  for (ParameterSpec& spec : specs) {
    spec.trained = trainable == Trainable::kAll || IsOfSummaries(spec.name);
  }
}

std::vector<ParameterSpec> ParameterSpecs(const ModelConfig& config, int tensor_ranks, bool sequence_parallel) {
  ParameterList list(config, tensor_ranks, sequence_parallel);
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
    list.Begin(layer, LayerPrefix(layer));
    AddBlock(config, layer, list);
  }
  list.Begin(config.num_hidden_layers, "");
  list.RowNorm("model.norm.weight", ParameterKind::kNorm);
  if (!config.tie_word_embeddings) {
    list.Matrix("lm_head.weight", config.EmbeddingRows(), config.hidden_size, ParameterKind::kHead, vocabulary);
  }
  return list.Take();
}

}  // namespace ksa
