#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "data/files/json.h"
#include "kernels/core/error.h"
#include "trainer/config/load.h"
#include "trainer/interop/hf_config.h"
#include "trainer/interop/hf_released.h"

namespace ksa {
namespace {

using nlohmann::json;

constexpr int64_t kMostLayers = 100000;

// Fields that say nothing about what the model computes.
constexpr std::string_view kHarmless[] = {"_name_or_path",
                                          "architectures",
                                          "auto_map",
                                          "bad_words_ids",
                                          "begin_suppress_tokens",
                                          "bos_token_id",
                                          "chunk_size_feed_forward",
                                          "dtype",
                                          "eos_token_id",
                                          "id2label",
                                          "initializer_range",
                                          "initializer_fan_in",
                                          "is_decoder",
                                          "label2id",
                                          "max_window_layers",
                                          "model_type",
                                          "output_attentions",
                                          "output_hidden_states",
                                          "pad_token_id",
                                          "problem_type",
                                          "return_dict",
                                          "sep_token_id",
                                          "task_specific_params",
                                          "tokenizer_class",
                                          "torch_dtype",
                                          "torchscript",
                                          "transformers_version",
                                          "transformers.js_config",
                                          "use_bfloat16",
                                          "use_cache"};

// Sizes, as both have them.
constexpr std::array<const char*, 11> kShared = {"vocab_size",
                                                 "hidden_size",
                                                 "intermediate_size",
                                                 "num_hidden_layers",
                                                 "num_attention_heads",
                                                 "num_key_value_heads",
                                                 "head_dim",
                                                 "max_position_embeddings",
                                                 "rms_norm_eps",
                                                 "tie_word_embeddings",
                                                 "rope_theta"};

std::string Shown(const json& value) {
  constexpr size_t kMost = 200;
  return value.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, kMost);
}

// The fields of a config.json. Those that nobody asked for are refused at the end.
class Fields {
 public:
  Fields(const json& root, const std::string& path) : root_(root), path_(path) {
    known_.insert(std::begin(kHarmless), std::end(kHarmless));
  }

  [[noreturn]] void Refuse(const char* field, const std::string& why) const {
    Fail(ExitCode::kConfig, "{}: {}: {}", path_, field, why);
  }

  // Null when it is absent.
  const json* Find(const char* field) {
    known_.insert(field);
    const auto found = root_.find(field);
    return found == root_.end() ? nullptr : &*found;
  }

  // A field that must have this value where it is there.
  void Expect(const char* field, const json& value, const char* otherwise) {
    if (const json* found = Find(field); found != nullptr && *found != value) {
      Refuse(field, fmt::format("{}; {}", Shown(*found), otherwise));
    }
  }

  int64_t Count(const char* field, int64_t least, int64_t most) {
    const json* found = Find(field);
    if (found == nullptr || !found->is_number_unsigned() || found->get<uint64_t>() > static_cast<uint64_t>(most) ||
        found->get<int64_t>() < least) {
      Refuse(field, fmt::format("an integer from {} to {} is needed", least, most));
    }
    return found->get<int64_t>();
  }

  double Number(const char* field, double otherwise) {
    const json* found = Find(field);
    if (found != nullptr && !found->is_number()) {
      Refuse(field, "a number is needed");
    }
    return found == nullptr ? otherwise : found->get<double>();
  }

  void Know(std::initializer_list<const char*> fields) { known_.insert(fields.begin(), fields.end()); }

  void RefuseUnknown() const {
    std::vector<std::string> unknown;
    for (const auto& [name, value] : root_.items()) {
      if (!known_.contains(name)) {
        unknown.push_back(fmt::format("{} ({:.80})", name.substr(0, 100), Shown(value)));
      }
    }
    if (!unknown.empty()) {
      Fail(ExitCode::kConfig,
           "{}: fields that are not known here: {}; take out what does not change the model, and do not import a model "
           "that it changes",
           path_,
           fmt::join(unknown, ", "));
    }
  }

  [[nodiscard]] const json& root() const { return root_; }

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  const json& root_;
  const std::string& path_;
  std::set<std::string, std::less<>> known_;
};

// RoPE stands in one or two places, which must agree, and must be plain.
void TakeRope(Fields& fields, json& model) {
  const json* theta = fields.Find("rope_theta");
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    const json* rope = fields.Find(name);
    if (rope == nullptr || rope->is_null()) {
      continue;
    }
    if (!rope->is_object()) {
      fields.Refuse(name, "an object is needed");
    }
    for (const auto& [key, value] : rope->items()) {
      if ((key == "rope_type" || key == "type") && value == "default") {
        continue;
      }
      if (key == "rope_theta" && value.is_number() && (theta == nullptr || *theta == value)) {
        model["rope_theta"] = value;
        continue;
      }
      fields.Refuse(name,
                    fmt::format("{}: {}; only plain RoPE with one base is computed here (no yarn, linear, dynamic or "
                                "partial rotation)",
                                key.substr(0, 100),
                                Shown(value)));
    }
  }
  if (theta != nullptr) {
    model["rope_theta"] = *theta;
  }
}

std::string LayerType(Fields& fields, const json& types, size_t layer) {
  const json& type = types[layer];
  if (type != "full_attention" && type != "sliding_attention") {
    fields.Refuse("layer_types",
                  fmt::format("layer {}: {}; full_attention and sliding_attention are known", layer, Shown(type)));
  }
  return type.get<std::string>();
}

json Qwen3Attention(Fields& fields, int64_t layers) {
  const json* use = fields.Find("use_sliding_window");
  const json* window = fields.Find("sliding_window");
  const json* types = fields.Find("layer_types");
  const json* first = fields.Find("max_window_layers");
  const bool sliding = use != nullptr && *use == true && window != nullptr && !window->is_null();
  if (types != nullptr && !types->is_null() && (!types->is_array() || types->size() != static_cast<size_t>(layers))) {
    fields.Refuse("layer_types", fmt::format("a list of {} types is needed, one a layer", layers));
  }
  json attention;
  json pattern = json::array();
  for (int64_t layer = 0; layer < layers; ++layer) {
    bool slides = false;
    if (types != nullptr && !types->is_null()) {
      slides = LayerType(fields, *types, static_cast<size_t>(layer)) == "sliding_attention";
    } else if (sliding) {
      slides = layer >= (first == nullptr || !first->is_number_unsigned() ? 28 : first->get<int64_t>());
    }
    if (slides && !sliding) {
      fields.Refuse("layer_types",
                    fmt::format("layer {} slides, while use_sliding_window or sliding_window gives no window", layer));
    }
    if (slides) {
      attention["swa"]["window"] = fields.Count("sliding_window", 1, int64_t{1} << 30);
    }
    pattern.push_back({{"kind", slides ? "swa" : "full"}});
  }
  attention["pattern"] = std::move(pattern);
  return attention;
}

void ReadQwen3(Fields& fields, HfModel& hf, json& model) {
  const int64_t layers = fields.Count("num_hidden_layers", 1, kMostLayers);
  fields.Expect("hidden_act", "silu", "only silu is computed here");
  fields.Expect("attention_bias", false, "projections have no bias here");
  fields.Expect("attention_dropout", 0.0, "there is no dropout here");
  fields.Expect("quantization_config", nullptr, "quantised weights are not read; export them in BF16 first");
  const bool released =
      fields.Find("use_summary_attention") != nullptr && fields.root()["use_summary_attention"] == true;
  if (fields.Find("head_dim") == nullptr) {
    model["head_dim"] = 128;  // Qwen3's default
  }
  model["qk_norm"] = true;
  if (!released) {
    fields.Expect("use_summary_attention", false, "true or false is needed");
    model["attention"] = Qwen3Attention(fields, layers);
    hf.layout = HfLayout::kQwen3;
    return;
  }
  hf.layout = HfLayout::kReleased;
  fields.Expect("use_sliding_window", false, "windows of tokens and summaries together are not known here");
  fields.Know({"sliding_window",
               "layer_types",
               "summary_attention_mode",
               "summary_chunk_size",
               "summary_token_num",
               "summary_sliding_chunk_num",
               "summary_chunk_position_ids_type",
               "summary_token_position_ids_type",
               "summary_independent_parameters",
               "summary_independent_attention_layernorm"});
  if (const json* types = fields.Find("layer_types"); types != nullptr && types->is_array()) {
    for (const json& type : *types) {
      if (type != "full_attention") {
        fields.Refuse("layer_types", Shown(type) + "; windows of tokens and summaries together are not known here");
      }
    }
  }
  if (const json* freq = fields.Find("summary_layer_freq"); freq != nullptr && freq->is_array()) {
    for (const json& each : *freq) {
      if (each != 1) {
        fields.Refuse("summary_layer_freq", "only layers with summaries (1) are read");
      }
    }
  }
  model["attention"] = ReleasedAttention(fields.root(), layers, fields.path());
  model["vocab_size"] = fields.Count("summary_token_begin", 1, int64_t{1} << 30);
  hf.mix = fields.Number("mix_coeff", 1.0);
}

void ReadOwn(Fields& fields, HfModel& hf, json& model) {
  const json* attention = fields.Find("attention");
  if (attention == nullptr || !attention->is_object()) {
    fields.Refuse("attention", "a section as model.attention is needed");
  }
  if (const json* pattern = attention->contains("pattern") ? &(*attention)["pattern"] : nullptr;
      pattern == nullptr || !pattern->is_array() ||
      static_cast<int64_t>(pattern->size()) != fields.Count("num_hidden_layers", 1, kMostLayers)) {
    fields.Refuse("attention", "pattern must have one entry a layer");
  }
  const json* qk_norm = fields.Find("qk_norm");
  if (qk_norm == nullptr || !qk_norm->is_boolean()) {
    fields.Refuse("qk_norm", "true or false is needed");
  }
  hf.layout = HfLayout::kOwn;
  hf.mix = fields.Number("summary_mix", 1.0);
  hf.step = fields.Find("training_step") == nullptr ? 0 : fields.Count("training_step", 0, int64_t{1} << 50);
  model["attention"] = *attention;
  model["qk_norm"] = *qk_norm;
  // What version 5 of transformers adds on its own when it saves a folder again.
  TakeRope(fields, model);
}

}  // namespace

HfModel ParseHfConfig(const std::string& text, const std::string& path) {
  const json root = ParseJson(text, path);
  if (!root.is_object() || !root.contains("model_type") || !root["model_type"].is_string()) {
    Fail(ExitCode::kBadData, "{}: a configuration of Hugging Face needs a model_type", path);
  }
  Fields fields(root, path);
  json model;
  for (const char* name : kShared) {
    if (const json* value = fields.Find(name); value != nullptr && !value->is_null()) {
      model[name] = *value;
    }
  }
  HfModel hf;
  const std::string type = root["model_type"].get<std::string>();
  if (type == "qwen3") {
    TakeRope(fields, model);
    ReadQwen3(fields, hf, model);
  } else if (type == "ksa") {
    ReadOwn(fields, hf, model);
  } else {
    Fail(ExitCode::kConfig, "{}: model_type: {:.100}; qwen3 and ksa are read here", path, type);
  }
  const json* range = fields.Find("initializer_range");
  const json* fan_in = fields.Find("initializer_fan_in");
  if (fan_in != nullptr && *fan_in == true) {
    model["initializer_range"] = "fan_in";
  } else if (range != nullptr) {
    model["initializer_range"] = *range;
  }
  fields.RefuseUnknown();
  // JSON is YAML, and the schema's checks are those of any configuration.
  const json whole = {{"model", std::move(model)}};
  hf.model = ParseModelConfig(whole.dump(-1, ' ', true, json::error_handler_t::replace), path, 0);
  return hf;
}

}  // namespace ksa
