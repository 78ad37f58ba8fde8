#include "model/mixers/model_config.h"

#include <algorithm>

#include <fmt/core.h>

#include "model/mixers/registry.h"

namespace ksa {

MixerSettings::MixerSettings() {
  for (const MixerKind* kind : MixerKinds()) {
    if (std::optional<AnyValue> settings = kind->DefaultSettings()) {
      values_.push_back(std::move(*settings));
    }
  }
}

bool operator==(const LayerSpec& a, const LayerSpec& b) {
  return &a->kind() == &b->kind() && a->Equals(*b);
}

int32_t ModelConfig::ChunkSize() const {
  for (const LayerSpec& layer : layers) {
    if (const std::optional<ChunkKey> chunk = layer->kind().Chunk(*this)) {
      return chunk->size.value_or(0);
    }
  }
  return 1;
}

int32_t ModelConfig::MinKsaWindow() const {
  int32_t window = AttentionWindow::kUnlimited;
  for (const LayerSpec& layer : layers) {
    window = std::min(window, layer->SummaryWindow().value_or(AttentionWindow::kUnlimited));
  }
  return window;
}

int32_t ModelConfig::LastKsaLayer() const {
  auto last = static_cast<int32_t>(layers.size()) - 1;
  while (last >= 0 && !layers[static_cast<size_t>(last)]->SummaryWindow()) {
    --last;
  }
  return last;
}

std::string ModelConfig::GpuProblem() const {
  for (size_t i = 0; i < layers.size(); ++i) {
    if (const std::string what = layers[i]->GpuProblem(*this); !what.empty()) {
      return fmt::format(
          "layer {} ({}) needs {}, which has no kernels for GPUs yet; set run.device: cpu (--device cpu)",
          i,
          layers[i]->kind().name(),
          what);
    }
  }
  return {};
}

bool ModelConfig::SummariesAttend(int32_t layer) const {
  return HasSummaryRows() && layers[static_cast<size_t>(layer)]->SummariesAttend(*this);
}

}  // namespace ksa
