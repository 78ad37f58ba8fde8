#include "model/mixers/full/full.h"

#include "model/mixers/attention/attention_mixer.h"

namespace ksa {
namespace {

class Full final : public MixerKind {
 public:
  [[nodiscard]] std::string_view name() const override { return "full"; }

  [[nodiscard]] std::string_view doc() const override { return "all text before it"; }

  [[nodiscard]] std::vector<EntryField> EntryFields() const override { return WithProjection(WithAttentionFields({})); }

  [[nodiscard]] LayerSpec MakeLayer(const ModelConfig& config, const EntryValues& entry) const override {
    return MakeAttentionLayer(*this, AttentionWindow::Full(), config, entry);
  }

  [[nodiscard]] EntryValues EntryOf(const ModelConfig& config, const Mixer& mixer) const override {
    return WithAttentionEntry(config, mixer, {});
  }
};

}  // namespace

const MixerKind& FullKind() {
  static const Full kKind;
  return kKind;
}

LayerSpec FullLayer(const AttentionOptions& options) {
  return MakeAttentionLayer(FullKind(), AttentionWindow::Full(), options);
}

}  // namespace ksa
