#include "model/mixers/attention/attention_mixer.h"

#include <algorithm>
#include <typeinfo>

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "model/mixers/decode.h"
#include "model/mixers/full/full.h"
#include "model/mixers/mla/mla.h"

namespace ksa {
namespace {

int64_t Columns(const ModelConfig& config, int32_t heads) {
  return int64_t{1} * heads * config.head_dim;
}

// Keys or values: whole heads. With more ranks than heads, neighbours share one, and each sees the queries of its own
// heads only: the gradients of the replicas are parts of a sum.
void AddKeyValue(const ModelConfig& config, const std::string& name, ParameterKind kind, ParameterList& list) {
  const int64_t columns = Columns(config, config.num_key_value_heads);
  list.Matrix(name, columns, config.hidden_size, kind, Placement::Sharded(0), KeyReplicas(config, list.tensor_ranks()));
}

void AddTaps(const ModelConfig& config, int32_t taps, ParameterList& list) {
  const int64_t q = Columns(config, config.num_attention_heads);
  const int64_t kv = Columns(config, config.num_key_value_heads);
  const int replicas = KeyReplicas(config, list.tensor_ranks());
  list.Taps("self_attn.q_conv1d.weight", q, taps, Placement::Sharded(0));
  list.Taps("self_attn.k_conv1d.weight", kv, taps, Placement::Sharded(0), replicas);
  list.Taps("self_attn.v_conv1d.weight", kv, taps, Placement::Sharded(0), replicas);
}

bool SeesAllText(const AttentionWindow& window) {
  return window.chunks == AttentionWindow::kUnlimited && window.tokens == AttentionWindow::kUnlimited;
}

}  // namespace

int KeyReplicas(const ModelConfig& config, int tensor_ranks) {
  const int heads = config.num_key_value_heads;
  return tensor_ranks > heads ? tensor_ranks / heads : 1;
}

bool AttentionMixer::Equals(const Mixer& other) const {
  return typeid(*this) == typeid(other) && window_ == WindowOf(other) && options_ == OptionsOf(other);
}

std::optional<int32_t> AttentionMixer::SummaryWindow() const {
  return window_.summaries ? std::optional(window_.chunks) : std::nullopt;
}

bool AttentionMixer::SummariesAttend(const ModelConfig& config) const {
  return window_.summaries || config.ksa.full_layers == FullLayers::kAttend;
}

std::optional<LayerSpec> AttentionMixer::Teacher() const {
  const AttentionWindow all = AttentionWindow::Full();
  return ProjectionOf(*this) == Projection::kMla ? WithMla(FullKind(), all, options_)
                                                 : MakeAttentionLayer(FullKind(), all, options_);
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
  if (options_.short_conv > 0) {
    AddTaps(config, options_.short_conv, list);
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

AttentionSetup AttentionMixer::SetupOf(const ModelConfig& config,
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
                                    .q_conv = parameters.Find("self_attn.q_conv1d.weight"),
                                    .k_conv = parameters.Find("self_attn.k_conv1d.weight"),
                                    .v_conv = parameters.Find("self_attn.v_conv1d.weight"),
                                    .out = parameters.Get("self_attn.o_proj.weight")};
  return {weights, window_, options_, ropes.Of(config.head_dim), config.head_dim, config.rms_norm_eps};
}

std::unique_ptr<BoundMixer> AttentionMixer::Bind(const ModelConfig& config,
                                                 const LayerParameters& parameters,
                                                 RopeTables& ropes) const {
  return std::make_unique<BoundAttention>(SetupOf(config, parameters, ropes));
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
// an entry is a key and a value of every key/value head. A convolution keeps the last rows that went into it.
CacheSize AttentionMixer::CacheAt(const ModelConfig& config, int64_t tokens, DType dtype) const {
  const int64_t k = config.ChunkSize();
  CacheSize cache;
  cache.entries = RingRows(window_, tokens, k, config.HasSummaryRows() && SummariesAttend(config));
  if (SummaryWindow()) {
    cache.entries += tokens / k * config.ksa.summary_tokens;
  }
  const int64_t kv = Columns(config, config.num_key_value_heads);
  cache.bytes = cache.entries * 2 * kv * SizeOf(dtype);
  if (options_.short_conv > 0) {
    const int64_t rows = std::min<int64_t>(tokens, options_.short_conv - 1);
    cache.bytes += rows * (Columns(config, config.num_attention_heads) + 2 * kv) * SizeOf(dtype);
  }
  return cache;
}

LayerSpec MakeAttentionLayer(const MixerKind& kind, const AttentionWindow& window, const AttentionOptions& options) {
  return LayerSpec(std::make_shared<AttentionMixer>(kind, window, options));
}

LayerSpec MakeAttentionLayer(const MixerKind& kind,
                             const AttentionWindow& window,
                             const ModelConfig& config,
                             const EntryValues& entry) {
  ModelConfig layer;
  layer.mixers.Of<MlaConfig>().projection = config.mixers.Of<MlaConfig>().projection;
  const MixerKey key = ProjectionKey();
  if (const auto given = entry.find(key.path); given != entry.end()) {
    key.set(layer, given->second);
  }
  const AttentionOptions options = OptionsOf(config, entry);
  return layer.mixers.Of<MlaConfig>().projection == Projection::kMla ? WithMla(kind, window, options)
                                                                     : MakeAttentionLayer(kind, window, options);
}

namespace {

const AttentionMixer& AttentionOf(const Mixer& mixer) {
  const auto* attention = dynamic_cast<const AttentionMixer*>(&mixer);
  KSA_CHECK(attention != nullptr, "a {} layer is no softmax attention with a window", mixer.kind().name());
  return *attention;
}

}  // namespace

const AttentionWindow& WindowOf(const Mixer& mixer) {
  return AttentionOf(mixer).window();
}

const AttentionOptions& OptionsOf(const Mixer& mixer) {
  return AttentionOf(mixer).options();
}

bool HasDefaultOptions(const Mixer& mixer) {
  const auto* attention = dynamic_cast<const AttentionMixer*>(&mixer);
  return attention == nullptr ||
         (attention->options() == AttentionOptions() && ProjectionOf(mixer) == Projection::kGqa);
}

}  // namespace ksa
