#include "model/mixers/swa/swa.h"

#include <algorithm>

#include "model/mixers/attention/attention_mixer.h"

namespace ksa {
namespace {

constexpr const char* kWindow = "window";

class Swa final : public MixerKind {
 public:
  [[nodiscard]] std::string_view name() const override { return "swa"; }

  [[nodiscard]] std::string_view doc() const override { return "the last `window` tokens of text, itself included"; }

  [[nodiscard]] std::optional<AnyValue> DefaultSettings() const override { return AnyValue(SwaConfig()); }

  [[nodiscard]] std::vector<MixerKey> Keys() const override {
    return {KeyAt(
        "swa.window",
        KeyType::Integer(1).OrNone(),
        "none",
        "text keys that a query of a swa layer sees, itself included",
        [](auto& config) -> auto& { return config.mixers.template Of<SwaConfig>().window; })};
  }

  [[nodiscard]] std::vector<EntryField> EntryFields() const override {
    return WithProjection(WithAttentionFields({{kWindow, KeyType::Integer(1)}}));
  }

  [[nodiscard]] LayerSpec MakeLayer(const ModelConfig& config, const EntryValues& entry) const override {
    const int32_t window = config.mixers.Of<SwaConfig>().window.value_or(0);
    return MakeAttentionLayer(
        *this, AttentionWindow::SlidingTokens(NumberOf(entry, kWindow).value_or(window)), config, entry);
  }

  [[nodiscard]] EntryValues EntryOf(const ModelConfig& config, const Mixer& mixer) const override {
    const int32_t window = WindowOf(mixer).tokens;
    const bool is_default = config.mixers.Of<SwaConfig>().window == window;
    return WithAttentionEntry(config, mixer, is_default ? EntryValues() : EntryValues{{kWindow, int64_t{window}}});
  }

  [[nodiscard]] std::vector<MixerProblem> Problems(const MixerDraft& draft) const override {
    return draft.RequiredFor(name(), "swa.window", draft.model.mixers.Of<SwaConfig>().window.has_value(), kWindow);
  }
};

}  // namespace

const MixerKind& SwaKind() {
  static const Swa kKind;
  return kKind;
}

LayerSpec SwaLayer(int32_t window_tokens, const AttentionOptions& options) {
  return MakeAttentionLayer(SwaKind(), AttentionWindow::SlidingTokens(window_tokens), options);
}

}  // namespace ksa
