#include <algorithm>
#include <variant>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "model/mixers/attention/attention_mixer.h"
#include "model/mixers/mla/mla.h"
#include "model/mixers/registry.h"
#include "trainer/interop/hf_config.h"
#include "trainer/interop/hf_released.h"

namespace ksa {
namespace {

using nlohmann::ordered_json;

std::string KindOf(const LayerSpec& layer) {
  return std::string(layer->kind().name());
}

ordered_json JsonOf(const KeyValue& value) {
  return std::visit(
      [](const auto& held) -> ordered_json {
        if constexpr (std::is_same_v<std::decay_t<decltype(held)>, std::monostate>) {
          return nullptr;
        } else {
          return held;
        }
      },
      value);
}

bool HasLatents(const ModelConfig& model) {
  return std::any_of(model.layers.begin(), model.layers.end(), [](const LayerSpec& layer) {
    return ProjectionOf(*layer) == Projection::kMla;
  });
}

// Keys of all layers, which entries of the pattern override.
std::vector<MixerKey> OptionKeys() {
  std::vector<MixerKey> keys = AttentionOptionKeys();
  keys.push_back(ProjectionKey());
  return keys;
}

// The section model.attention, whole: options of all layers, what the pattern's kinds have as keys, and an entry a
// layer.
ordered_json AttentionJson(const ModelConfig& model) {
  ordered_json attention;
  ordered_json pattern = ordered_json::array();
  std::vector<std::string> used;
  for (const LayerSpec& layer : model.layers) {
    ordered_json entry = {{"kind", KindOf(layer)}};
    for (const auto& [name, value] : layer->kind().EntryOf(model, *layer)) {
      entry[name] = JsonOf(value);
    }
    used.push_back(KindOf(layer));
    pattern.push_back(std::move(entry));
  }
  attention["pattern"] = std::move(pattern);
  for (const MixerKey& key : OptionKeys()) {
    if (const KeyValue value = key.get(model); value != key.get(ModelConfig())) {
      attention[key.path] = JsonOf(value);
    }
  }
  for (const MixerKind* kind : MixerKinds()) {
    const bool latents = kind == &MlaKind() && HasLatents(model);
    if (!latents && std::find(used.begin(), used.end(), kind->name()) == used.end()) {
      continue;
    }
    for (const MixerKey& key : kind->Keys()) {
      const KeyValue value = key.get(model);
      if (std::holds_alternative<std::monostate>(value)) {
        continue;
      }
      ordered_json* at = &attention;
      size_t begin = 0;
      for (size_t dot = key.path.find('.'); dot != std::string::npos; dot = key.path.find('.', begin)) {
        at = &(*at)[key.path.substr(begin, dot - begin)];
        begin = dot + 1;
      }
      (*at)[key.path.substr(begin)] = JsonOf(value);
    }
  }
  return attention;
}

void AddSizes(const ModelConfig& model, ordered_json& json) {
  json["hidden_size"] = model.hidden_size;
  json["intermediate_size"] = model.intermediate_size;
  json["num_hidden_layers"] = model.num_hidden_layers;
  json["num_attention_heads"] = model.num_attention_heads;
  json["num_key_value_heads"] = model.num_key_value_heads;
  json["head_dim"] = model.head_dim;
  json["max_position_embeddings"] = model.max_position_embeddings;
  json["rms_norm_eps"] = model.rms_norm_eps;
  json["tie_word_embeddings"] = model.tie_word_embeddings;
}

void AddQwen3(const ModelConfig& model, ordered_json& json) {
  json["hidden_act"] = "silu";
  json["attention_bias"] = false;
  json["attention_dropout"] = 0.0;
  json["initializer_range"] = model.initializer_range.fan_in ? 0.02 : model.initializer_range.std;
  // Version 5 of transformers reads the first, version 4 the second.
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", model.rope_theta}};
  json["rope_theta"] = model.rope_theta;
  std::vector<std::string> types;
  int32_t window = 0;
  for (const LayerSpec& layer : model.layers) {
    const bool sliding = KindOf(layer) == "swa";
    types.emplace_back(sliding ? "sliding_attention" : "full_attention");
    window = sliding ? WindowOf(*layer).tokens : window;
  }
  json["layer_types"] = types;
  json["use_sliding_window"] = window > 0;
  json["sliding_window"] = window > 0 ? ordered_json(window) : ordered_json();
  json["max_window_layers"] = model.num_hidden_layers;
  json["use_cache"] = true;
}

void AddOwn(const ModelConfig& model, const HfFacts& facts, ordered_json& json) {
  json["auto_map"] = {{"AutoConfig", "configuration_ksa.KsaConfig"},
                      {"AutoModelForCausalLM", "modeling_ksa.KsaForCausalLM"}};
  json["qk_norm"] = model.qk_norm;
  json["rope_theta"] = model.rope_theta;
  json["initializer_range"] = model.initializer_range.fan_in ? 0.02 : model.initializer_range.std;
  json["initializer_fan_in"] = model.initializer_range.fan_in;
  json["attention"] = AttentionJson(model);
  json["summary_mix"] = facts.mix;
  json["training_step"] = facts.step;
  json["use_cache"] = false;
}

// What the layouts know of each kind of layer: these keys, and these values of entries. A setting that another key or
// value makes would be lost in silence.
constexpr std::string_view kKnownKeys[] = {"ksa.chunk_size",
                                           "ksa.summary_tokens",
                                           "ksa.window_chunks",
                                           "ksa.text_positions",
                                           "ksa.summary_positions",
                                           "ksa.full_layers",
                                           "ksa.independent.embedding",
                                           "ksa.independent.qkv",
                                           "ksa.independent.norm",
                                           "ksa.independent.qk_norm",
                                           "ksa.anneal.start_step",
                                           "ksa.anneal.end_step",
                                           "swa.window",
                                           "sca.chunk_size",
                                           "sca.window_chunks",
                                           "hca.chunk_size",
                                           "hca.window_chunks",
                                           "hca.compressed_positions",
                                           "hca.visibility",
                                           "hca.independent_kv",
                                           "hca.gate",
                                           "hca.value_norm",
                                           "mla.q_lora_rank",
                                           "mla.kv_lora_rank",
                                           "mla.qk_nope_head_dim",
                                           "mla.qk_rope_head_dim",
                                           "mla.v_head_dim"};
constexpr std::string_view kKnownValues[] = {"window_chunks", "window", "rope", "short_conv", "projection"};

template <typename List>
bool Holds(const List& list, std::string_view name) {
  return std::find(std::begin(list), std::end(list), name) != std::end(list);
}

std::string TextOf(const KeyValue& value) {
  const ordered_json json = JsonOf(value);
  return json.is_string() ? json.get<std::string>() : json.is_null() ? "none" : json.dump();
}

std::vector<std::string> UnknownSettings(const ModelConfig& model) {
  std::vector<std::string> problems;
  std::vector<std::string> used;
  for (const LayerSpec& layer : model.layers) {
    for (const auto& [name, value] : layer->kind().EntryOf(model, *layer)) {
      if (!Holds(kKnownValues, name)) {
        problems.push_back(fmt::format("model.attention.pattern: {}: {}; no layout has it", name, TextOf(value)));
      }
    }
    used.push_back(KindOf(layer));
  }
  for (const MixerKind* kind : MixerKinds()) {
    for (const MixerKey& key : Holds(used, kind->name()) ? kind->Keys() : std::vector<MixerKey>()) {
      const std::string value = TextOf(key.get(model));
      if (!Holds(kKnownKeys, key.path) && value != key.default_text) {
        problems.push_back(fmt::format("{}: {}; no layout has it", FullPath(key.path), value));
      }
    }
  }
  return problems;
}

std::vector<std::string> OwnProblems(const ModelConfig& model) {
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const std::string kind = KindOf(model.layers[i]);
    if (constexpr std::string_view kComputed[] = {"ksa", "full", "swa", "sca", "hca", "mla"}; !Holds(kComputed, kind)) {
      return {fmt::format("model.attention.pattern: layer {} is {}; modeling_ksa.py computes {} layers",
                          i,
                          kind,
                          fmt::join(kComputed, ", "))};
    }
  }
  return {};
}

std::vector<std::string> Qwen3Problems(const ModelConfig& model) {
  std::vector<std::string> problems;
  std::optional<int32_t> window;
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const std::string kind = KindOf(model.layers[i]);
    if (kind != "full" && kind != "swa") {
      problems.push_back(
          fmt::format("model.attention.pattern: layer {} is {}; Qwen3 has full and swa layers", i, kind));
      break;
    }
    if (kind == "swa" && window.value_or(WindowOf(*model.layers[i]).tokens) != WindowOf(*model.layers[i]).tokens) {
      problems.emplace_back("model.attention.swa.window: Qwen3 has one window for all layers");
      break;
    }
    window = kind == "swa" ? std::optional(WindowOf(*model.layers[i]).tokens) : window;
  }
  if (!model.qk_norm) {
    problems.emplace_back("model.qk_norm: false, while Qwen3 norms q and k");
  }
  if (model.intermediate_size == 0) {
    problems.emplace_back("model.intermediate_size: 0, while a block of Qwen3 has an MLP");
  }
  return problems;
}

}  // namespace

const char* NameOf(HfLayout layout) {
  return layout == HfLayout::kOwn ? "own" : layout == HfLayout::kQwen3 ? "qwen3" : "released";
}

std::vector<std::string> LayoutProblems(const ModelConfig& model, HfLayout layout) {
  for (size_t i = 0; i < model.layers.size(); ++i) {
    if (layout != HfLayout::kOwn && !HasDefaultOptions(*model.layers[i])) {
      return {fmt::format(
          "model.attention: layer {} has rope: none, a short_conv or projection: mla, which the layout own alone has",
          i)};
    }
  }
  std::vector<std::string> problems = layout == HfLayout::kQwen3      ? Qwen3Problems(model)
                                      : layout == HfLayout::kReleased ? ReleasedProblems(model)
                                                                      : OwnProblems(model);
  if (problems.empty()) {
    problems = UnknownSettings(model);
  }
  return problems;
}

std::string RenderHfConfig(const ModelConfig& model, HfLayout layout, const HfFacts& facts) {
  ordered_json json;
  const bool own = layout == HfLayout::kOwn;
  json["architectures"] = {own ? "KsaForCausalLM" : "Qwen3ForCausalLM"};
  json["model_type"] = own ? "ksa" : "qwen3";
  json["vocab_size"] = model.vocab_size;
  AddSizes(model, json);
  if (own) {
    AddOwn(model, facts, json);
  } else {
    AddQwen3(layout == HfLayout::kReleased ? AsFullLayers(model) : model, json);
  }
  if (layout == HfLayout::kReleased) {
    json["vocab_size"] = model.vocab_size + model.ksa.summary_tokens;
    json.update(ReleasedFields(model, facts.mix));
  }
  json["bos_token_id"] = nullptr;
  json["eos_token_id"] = facts.eos ? ordered_json(*facts.eos) : ordered_json();
  json["pad_token_id"] = facts.eos ? ordered_json(*facts.eos) : ordered_json();
  const char* dtype = facts.type == StoredType::kF32 ? "float32" : "bfloat16";
  json["dtype"] = dtype;
  json["torch_dtype"] = dtype;
  return json.dump(2) + "\n";
}

}  // namespace ksa
