#include "trainer/interop/hf_released.h"

#include <algorithm>
#include <array>
#include <utility>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "model/mixers/attention/attention_mixer.h"
#include "model/mixers/full/full.h"

namespace ksa {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int64_t kMostLayers = 100000;
constexpr std::array<std::pair<const char*, const char*>, 3> kSummaryPositions{
    {{"chunk_end", "last_chunk_slice_right"}, {"chunk_start", "last_chunk_slice_left"}, {"zero", "zeros"}}};
constexpr const char* kWindows = "summary_sliding_chunk_num";

// A window that is wider than any sequence.
int32_t WholeWindow(const ModelConfig& model) {
  return (model.max_position_embeddings + model.ksa.chunk_size - 1) / model.ksa.chunk_size;
}

// Lists of integers with + and *, and brackets around them: what the released configurations write.
class ListReader {
 public:
  ListReader(const std::string& text, const std::string& path) : text_(text), path_(path) {}

  std::vector<int64_t> Read() {
    std::vector<int64_t> list = Sum(0);
    if (Peek() != '\0') {
      Refuse();
    }
    return list;
  }

 private:
  static constexpr int kMostDepth = 16;

  [[noreturn]] void Refuse() const {
    Fail(ExitCode::kConfig,
         "{}: {}: '{:.200}' is not understood (at character {}); give a list of integers, one a layer",
         path_,
         kWindows,
         text_,
         at_ + 1);
  }

  char Peek() {
    while (at_ < text_.size() && text_[at_] == ' ') {
      ++at_;
    }
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  void Take(char expected) {
    if (Peek() != expected) {
      Refuse();
    }
    ++at_;
  }

  int64_t Integer() {
    int64_t value = 0;
    const char first = Peek();
    if (first < '0' || first > '9') {
      Refuse();
    }
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      value = value * 10 + (text_[at_++] - '0');
      if (value > int64_t{1} << 30) {
        Refuse();
      }
    }
    return value;
  }

  std::vector<int64_t> Sum(int depth) {
    std::vector<int64_t> list = Product(depth);
    while (Peek() == '+') {
      ++at_;
      const std::vector<int64_t> more = Product(depth);
      list.insert(list.end(), more.begin(), more.end());
      Bound(list.size());
    }
    return list;
  }

  std::vector<int64_t> Product(int depth) {
    std::vector<int64_t> list = Atom(depth);
    while (Peek() == '*') {
      ++at_;
      const int64_t times = Integer();
      Bound(list.size() * static_cast<size_t>(times));
      std::vector<int64_t> repeated;
      for (int64_t i = 0; i < times; ++i) {
        repeated.insert(repeated.end(), list.begin(), list.end());
      }
      list = std::move(repeated);
    }
    return list;
  }

  std::vector<int64_t> Atom(int depth) {
    if (depth == kMostDepth) {
      Refuse();
    }
    std::vector<int64_t> list;
    if (Peek() == '(') {
      ++at_;
      list = Sum(depth + 1);
      Take(')');
      return list;
    }
    Take('[');
    while (Peek() != ']') {
      list.push_back(Integer());
      Bound(list.size());
      if (Peek() == ',') {
        ++at_;
      }
    }
    Take(']');
    return list;
  }

  void Bound(size_t size) const {
    if (size > static_cast<size_t>(kMostLayers)) {
      Refuse();
    }
  }

  const std::string& text_;
  const std::string& path_;
  size_t at_ = 0;
};

[[noreturn]] void RefuseField(const std::string& path, const char* field, const std::string& why) {
  Fail(ExitCode::kConfig, "{}: {}: {}", path, field, why);
}

int64_t CountAt(const json& config, const char* field, int64_t most, const std::string& path) {
  const auto found = config.find(field);
  if (found == config.end() || !found->is_number_unsigned() || found->get<uint64_t>() > static_cast<uint64_t>(most)) {
    RefuseField(path, field, fmt::format("an integer from 0 to {} is needed", most));
  }
  return found->get<int64_t>();
}

bool TruthAt(const json& config, const char* field, const std::string& path) {
  const auto found = config.find(field);
  if (found == config.end()) {
    return false;
  }
  if (!found->is_boolean()) {
    RefuseField(path, field, "true or false is needed");
  }
  return found->get<bool>();
}

std::string TextAt(const json& config, const char* field, const std::string& path) {
  const auto found = config.find(field);
  if (found == config.end() || !found->is_string()) {
    RefuseField(path, field, "a name is needed");
  }
  return found->get<std::string>();
}

}  // namespace

std::vector<std::string> ReleasedProblems(const ModelConfig& model) {
  if (!model.HasSummaryRows()) {
    return {"model.attention.pattern: no layer is ksa; use the layout qwen3"};
  }
  std::vector<std::string> problems;
  const KsaConfig& ksa = model.ksa;
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const std::string_view kind = model.layers[i]->kind().name();
    if (kind != "ksa" && kind != "full") {
      problems.push_back(fmt::format("model.attention.pattern: layer {} is {}; it has ksa and full layers", i, kind));
      break;
    }
    if (kind == "full" && ksa.full_layers == FullLayers::kBypass) {
      problems.emplace_back("model.attention.ksa.full_layers: bypass; there summaries run through every layer");
      break;
    }
  }
  if (ksa.independent.qk_norm) {
    problems.emplace_back("model.attention.ksa.independent.qk_norm: true; there own projections pass the base norms");
  }
  if (!ksa.independent.embedding && model.tie_word_embeddings) {
    problems.emplace_back(
        "model.attention.ksa.independent.embedding: false with tied embeddings; a reader could not tell that from an "
        "embedding of their own");
  }
  if (!model.qk_norm) {
    problems.emplace_back("model.qk_norm: false; there q and k are normed");
  }
  if (model.intermediate_size == 0) {
    problems.emplace_back("model.intermediate_size: 0; there a block has an MLP");
  }
  return problems;
}

ordered_json ReleasedFields(const ModelConfig& model, double mix) {
  const KsaConfig& ksa = model.ksa;
  ordered_json json;
  std::vector<int32_t> windows;
  for (const LayerSpec& layer : model.layers) {
    windows.push_back(layer->SummaryWindow() ? WindowOf(*layer).chunks : WholeWindow(model));
  }
  json["use_summary_attention"] = true;
  json["summary_token_begin"] = model.vocab_size;
  json["summary_chunk_size"] = ksa.chunk_size;
  json["summary_token_num"] = ksa.summary_tokens;
  json[kWindows] = windows;
  json["summary_layer_freq"] = std::vector<int>(windows.size(), 1);
  json["summary_chunk_position_ids_type"] = ksa.text_positions == TextPositions::kInnerChunk ? "inner_chunk" : "origin";
  json["summary_token_position_ids_type"] = kSummaryPositions.at(static_cast<size_t>(ksa.summary_positions)).second;
  json["summary_independent_parameters"] = ksa.independent.qkv;
  json["summary_independent_attention_layernorm"] = ksa.independent.norm;
  json["summary_attention_mode"] = "kernel";
  json["mix_coeff"] = mix;
  json["auto_map"] = {{"AutoModel", "modeling_qwen3sa.Qwen3Model"},
                      {"AutoModelForCausalLM", "modeling_qwen3sa.Qwen3ForCausalLM"}};
  return json;
}

std::vector<int64_t> ParseWindows(const json& value, int64_t layers, const std::string& path) {
  std::vector<int64_t> windows;
  if (value.is_number_unsigned()) {
    windows.assign(static_cast<size_t>(layers), value.get<int64_t>());
  } else if (value.is_string()) {
    windows = ListReader(value.get_ref<const std::string&>(), path).Read();
  } else if (value.is_array() &&
             std::all_of(value.begin(), value.end(), [](const json& item) { return item.is_number_unsigned(); })) {
    windows = value.get<std::vector<int64_t>>();
  } else {
    RefuseField(path, kWindows, "a list of integers, one a layer, is needed");
  }
  if (static_cast<int64_t>(windows.size()) != layers) {
    RefuseField(path, kWindows, fmt::format("{} windows for {} layers", windows.size(), layers));
  }
  return windows;
}

json ReleasedAttention(const json& config, int64_t layers, const std::string& path) {
  constexpr int64_t kMost = int64_t{1} << 30;
  if (layers < 1 || layers > kMostLayers) {
    RefuseField(path, "num_hidden_layers", fmt::format("from 1 to {}", kMostLayers));
  }
  json ksa;
  ksa["chunk_size"] = CountAt(config, "summary_chunk_size", kMost, path);
  ksa["summary_tokens"] = CountAt(config, "summary_token_num", kMost, path);
  const std::string text = TextAt(config, "summary_chunk_position_ids_type", path);
  if (text != "origin" && text != "inner_chunk") {
    RefuseField(path, "summary_chunk_position_ids_type", text + "; origin or inner_chunk is read here");
  }
  ksa["text_positions"] = text;
  const std::string summary = TextAt(config, "summary_token_position_ids_type", path);
  for (const auto& [ours, theirs] : kSummaryPositions) {
    if (summary == theirs) {
      ksa["summary_positions"] = ours;
    }
  }
  if (!ksa.contains("summary_positions")) {
    RefuseField(path,
                "summary_token_position_ids_type",
                summary + "; last_chunk_slice_right, last_chunk_slice_left or zeros is read here");
  }
  ksa["full_layers"] = "attend";
  ksa["independent"] = {{"embedding", true},
                        {"qkv", TruthAt(config, "summary_independent_parameters", path)},
                        {"norm", TruthAt(config, "summary_independent_attention_layernorm", path)},
                        {"qk_norm", false}};
  const auto windows = config.find(kWindows);
  if (windows == config.end()) {
    RefuseField(path, kWindows, "missing");
  }
  json pattern = json::array();
  for (const int64_t window : ParseWindows(*windows, layers, path)) {
    pattern.push_back({{"kind", "ksa"}, {"window_chunks", window}});
  }
  return {{"pattern", std::move(pattern)}, {"ksa", std::move(ksa)}};
}

ModelConfig AsFullLayers(const ModelConfig& model) {
  ModelConfig full = model;
  std::fill(full.layers.begin(), full.layers.end(), FullLayer());
  return full;
}

}  // namespace ksa
