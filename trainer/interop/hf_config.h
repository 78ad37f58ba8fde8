// config.json of a Hugging Face folder, and the model that it describes. docs/design/interop.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/mixers/model_config.h"
#include "trainer/interop/safetensors_header.h"

namespace ksa {

enum class HfLayout : int {
  kOwn,       // model_type ksa, with Python of ours
  kQwen3,     // a genuine Qwen3
  kReleased,  // Qwen3 with the summary fields of the released repository
};

[[nodiscard]] const char* NameOf(HfLayout layout);  // "own", "qwen3", "released"

// What config.json says besides the model.
struct HfFacts {
  double mix = 1.0;  // of the summaries' own projections
  int64_t step = 0;  // updates of the checkpoint
  std::optional<int64_t> eos;
  StoredType type = StoredType::kBF16;
};

// What of a model the layout cannot say, one line a reason that names the key; empty: it can.
[[nodiscard]] std::vector<std::string> LayoutProblems(const ModelConfig& model, HfLayout layout);

// Call with a layout that can say the model.
[[nodiscard]] std::string RenderHfConfig(const ModelConfig& model, HfLayout layout, const HfFacts& facts);

struct HfModel {
  HfLayout layout = HfLayout::kOwn;
  ModelConfig model;
  double mix = 1.0;
  int64_t step = 0;
  // Released: the head's rows behind the vocabulary decide whether summaries have an embedding of their own; `model`
  // says true, and the reader of the weights corrects it.
};

// From the text of a config.json at `path`. Every field is honoured, known to change nothing, or refused by name.
// Error(kConfig) for what we cannot honour, kBadData for what is not a configuration.
[[nodiscard]] HfModel ParseHfConfig(const std::string& text, const std::string& path);

}  // namespace ksa
