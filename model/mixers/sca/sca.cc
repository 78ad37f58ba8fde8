#include "model/mixers/sca/sca.h"

#include "model/mixers/attention/attention_mixer.h"

namespace ksa {
namespace {

constexpr const char* kWindow = "window_chunks";

class Sca final : public MixerKind {
 public:
  [[nodiscard]] std::string_view name() const override { return "sca"; }

  [[nodiscard]] std::string_view doc() const override {
    return "the text of its own chunk and of `window_chunks` chunks before it, up to itself";
  }

  [[nodiscard]] std::optional<AnyValue> DefaultSettings() const override { return AnyValue(ScaConfig()); }

  [[nodiscard]] std::vector<MixerKey> Keys() const override {
    return {
        KeyAt(
            "sca.chunk_size",
            KeyType::Integer(1).OrNone(),
            "none",
            "tokens a chunk of sca layers; equals ksa.chunk_size if both",
            [](auto& config) -> auto& { return config.mixers.template Of<ScaConfig>().chunk_size; }),
        KeyAt(
            "sca.window_chunks", KeyType::Integer(0).OrNone(), "none", "earlier chunks that text of a sca layer sees", [
            ](auto& config) -> auto& { return config.mixers.template Of<ScaConfig>().window_chunks; })};
  }

  [[nodiscard]] std::vector<EntryField> EntryFields() const override {
    return WithProjection(WithAttentionFields({{kWindow, KeyType::Integer(0)}}));
  }

  [[nodiscard]] LayerSpec MakeLayer(const ModelConfig& config, const EntryValues& entry) const override {
    const int32_t window = config.mixers.Of<ScaConfig>().window_chunks.value_or(0);
    return MakeAttentionLayer(
        *this, AttentionWindow::SlidingChunks(NumberOf(entry, kWindow).value_or(window)), config, entry);
  }

  [[nodiscard]] EntryValues EntryOf(const ModelConfig& config, const Mixer& mixer) const override {
    const int32_t window = WindowOf(mixer).chunks;
    const bool is_default = config.mixers.Of<ScaConfig>().window_chunks == window;
    return WithAttentionEntry(config, mixer, is_default ? EntryValues() : EntryValues{{kWindow, int64_t{window}}});
  }

  [[nodiscard]] std::optional<ChunkKey> Chunk(const ModelConfig& config) const override {
    return ChunkKey{"sca.chunk_size", config.mixers.Of<ScaConfig>().chunk_size};
  }

  [[nodiscard]] std::vector<MixerProblem> Problems(const MixerDraft& draft) const override {
    const ScaConfig& sca = draft.model.mixers.Of<ScaConfig>();
    std::vector<MixerProblem> problems = draft.RequiredFor(name(), "sca.chunk_size", sca.chunk_size.has_value());
    for (MixerProblem& problem :
         draft.RequiredFor(name(), "sca.window_chunks", sca.window_chunks.has_value(), kWindow)) {
      problems.push_back(std::move(problem));
    }
    return problems;
  }
};

}  // namespace

const MixerKind& ScaKind() {
  static const Sca kKind;
  return kKind;
}

LayerSpec ScaLayer(int32_t window_chunks, const AttentionOptions& options) {
  return MakeAttentionLayer(ScaKind(), AttentionWindow::SlidingChunks(window_chunks), options);
}

}  // namespace ksa
