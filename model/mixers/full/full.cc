#include "model/mixers/full/full.h"

#include "model/mixers/attention/attention_mixer.h"

namespace ksa {
namespace {

class Full final : public MixerKind {
 public:
  [[nodiscard]] std::string_view name() const override { return "full"; }

  [[nodiscard]] std::string_view doc() const override { return "all text before it"; }

  [[nodiscard]] LayerSpec MakeLayer(const ModelConfig& /*config*/, const EntryValues& /*entry*/) const override {
    return FullLayer();
  }
};

}  // namespace

const MixerKind& FullKind() {
  static const Full kKind;
  return kKind;
}

LayerSpec FullLayer() {
  return MakeAttentionLayer(FullKind(), AttentionWindow::Full());
}

}  // namespace ksa
