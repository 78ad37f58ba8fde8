#include "model/mixers/attention/attention_mixer.h"

#include <algorithm>

#include <fmt/core.h>

#include "kernels/core/error.h"

namespace ksa {
namespace {

int64_t Columns(const ModelConfig& config, int32_t heads) {
  return int64_t{1} * heads * config.head_dim;
}

// Keys or values: whole heads. With more ranks than heads, neighbours share one, and each sees the queries of its own
// heads only: the gradients of the replicas are parts of a sum.
void AddKeyValue(const ModelConfig& config, const std::string& name, ParameterKind kind, ParameterList& list) {
  const int heads = config.num_key_value_heads;
  const int replicas = list.tensor_ranks() > heads ? list.tensor_ranks() / heads : 1;
  list.Matrix(name, Columns(config, heads), config.hidden_size, kind, Placement::Sharded(0), replicas);
}

bool SeesAllText(const AttentionWindow& window) {
  return window.chunks == AttentionWindow::kUnlimited && window.tokens == AttentionWindow::kUnlimited;
}

}  // namespace

bool AttentionMixer::Equals(const Mixer& other) const {
  const AttentionWindow& theirs = WindowOf(other);
  return window_.chunks == theirs.chunks && window_.tokens == theirs.tokens && window_.summaries == theirs.summaries;
}

std::optional<int32_t> AttentionMixer::SummaryWindow() const {
  return window_.summaries ? std::optional(window_.chunks) : std::nullopt;
}

bool AttentionMixer::SummariesAttend(const ModelConfig& config) const {
  return window_.summaries || config.ksa.full_layers == FullLayers::kAttend;
}

bool AttentionMixer::IsFullAttention() const {
  return SeesAllText(window_) && !window_.summaries;
}

void AttentionMixer::AddParameters(const ModelConfig& config, bool own, ParameterList& list) const {
  const std::string problem = TensorProblem(config, list.tensor_ranks());
  KSA_CHECK(problem.empty(), "tensor ranks: {}", problem);
  const int64_t d = config.hidden_size;
  const int64_t q_out = Columns(config, config.num_attention_heads);
  const IndependentSummary& independent = config.ksa.independent;
  const auto add_projections = [&](const char* suffix, ParameterKind kind) {
    const auto name = [&](const char* part) { return fmt::format("self_attn.{}_proj{}.weight", part, suffix); };
    list.Matrix(name("q"), q_out, d, kind, Placement::Sharded(0));
    AddKeyValue(config, name("k"), kind, list);
    AddKeyValue(config, name("v"), kind, list);
  };
  add_projections("", ParameterKind::kAttention);
  if (own && independent.qkv) {
    add_projections("_summary", ParameterKind::kSummaryAttention);
  }
  if (config.qk_norm) {
    list.HeadNorm("self_attn.q_norm.weight", config.head_dim, ParameterKind::kNorm);
    list.HeadNorm("self_attn.k_norm.weight", config.head_dim, ParameterKind::kNorm);
    if (own && independent.qk_norm) {
      list.HeadNorm("self_attn.q_norm_summary.weight", config.head_dim, ParameterKind::kSummaryNorm);
      list.HeadNorm("self_attn.k_norm_summary.weight", config.head_dim, ParameterKind::kSummaryNorm);
    }
  }
  list.Matrix("self_attn.o_proj.weight", d, q_out, ParameterKind::kAttention, Placement::Sharded(1));
}

std::unique_ptr<BoundMixer> AttentionMixer::Bind(const ModelConfig& config,
                                                 const LayerParameters& parameters,
                                                 RopeTables& ropes) const {
  const auto pair = [&](const std::string& part) {
    return parameters.Pair("self_attn." + part + ".weight", "self_attn." + part + "_summary.weight");
  };
  const AttentionWeights weights = {.q = pair("q_proj"),
                                    .k = pair("k_proj"),
                                    .v = pair("v_proj"),
                                    .q_norm = pair("q_norm"),
                                    .k_norm = pair("k_norm"),
                                    .out = parameters.Get("self_attn.o_proj.weight")};
  return std::make_unique<BoundAttention>(
      weights, window_, ropes.Of(config.head_dim), config.head_dim, config.rms_norm_eps);
}

// Query heads stay whole; key/value heads stay whole or are shared by whole groups of ranks.
std::string AttentionMixer::TensorProblem(const ModelConfig& config, int32_t ranks) const {
  const int32_t heads = config.num_attention_heads;
  const int32_t kv_heads = config.num_key_value_heads;
  if (heads % ranks != 0) {
    return fmt::format("{} does not divide num_attention_heads {}", ranks, heads);
  }
  if (kv_heads % ranks != 0 && ranks % kv_heads != 0) {
    return fmt::format("{} neither divides num_key_value_heads {} nor is a multiple of it", ranks, kv_heads);
  }
  return {};
}

// The text of the window and of the query's own chunk, and where text sees them the summaries of all finished chunks;
// an entry is a key and a value of every key/value head.
CacheSize AttentionMixer::CacheAt(const ModelConfig& config, int64_t tokens, DType dtype) const {
  const int64_t k = config.ChunkSize();
  const int64_t chunks = window_.chunks == AttentionWindow::kUnlimited ? tokens : (window_.chunks + int64_t{1}) * k;
  CacheSize cache;
  cache.entries = std::min({tokens, chunks, int64_t{window_.tokens}});
  if (window_.summaries) {
    cache.entries += tokens / k * config.ksa.summary_tokens;
  }
  cache.bytes = cache.entries * 2 * Columns(config, config.num_key_value_heads) * SizeOf(dtype);
  return cache;
}

LayerSpec MakeAttentionLayer(const MixerKind& kind, const AttentionWindow& window) {
  return LayerSpec(std::make_shared<AttentionMixer>(kind, window));
}

const AttentionWindow& WindowOf(const Mixer& mixer) {
  const auto* attention = dynamic_cast<const AttentionMixer*>(&mixer);
  KSA_CHECK(attention != nullptr, "a {} layer is no softmax attention with a window", mixer.kind().name());
  return attention->window();
}

}  // namespace ksa
