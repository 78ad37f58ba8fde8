#include "model/mixers/hca/hca.h"

#include <algorithm>

#include <fmt/core.h>

#include "model/mixers/hca/hca_mixer.h"

namespace ksa {
namespace {

constexpr const char* kWindow = "window_chunks";
constexpr const char* kChunkSize = "hca.chunk_size";

template <typename Member>
auto At(Member HcaConfig::*member) {
  return [member](auto& config) -> auto& {
    return config.mixers.template Of<HcaConfig>().*member;
  };
}

bool Uses(const MixerDraft& draft, std::string_view kind) {
  return std::any_of(draft.used.begin(), draft.used.end(), [&](const auto& entry) { return entry.kind == kind; });
}

class Hca final : public MixerKind {
 public:
  [[nodiscard]] std::string_view name() const override { return "hca"; }

  [[nodiscard]] std::string_view doc() const override {
    return "the text of its own chunk and of `window_chunks` chunks before it, up to itself, and an entry for each "
           "chunk "
           "before those, pooled from the chunk's rows";
  }

  [[nodiscard]] std::optional<AnyValue> DefaultSettings() const override { return AnyValue(HcaConfig()); }

  [[nodiscard]] std::vector<MixerKey> Keys() const override {
    return {KeyAt(kChunkSize,
                  KeyType::Integer(1),
                  "8",
                  "text tokens a chunk, for which there is one entry; equals ksa's and sca's in one pattern",
                  At(&HcaConfig::chunk_size)),
            KeyAt("hca.window_chunks",
                  KeyType::Integer(0),
                  "128",
                  "earlier chunks whose text stays visible",
                  At(&HcaConfig::window_chunks)),
            NameKeyAt("hca.compressed_positions",
                      {"chunk_end", "chunk_start", "zero"},
                      "chunk_end",
                      "RoPE position of an entry in its chunk",
                      At(&HcaConfig::compressed_positions)),
            NameKeyAt("hca.visibility",
                      {"disjoint", "overlap"},
                      "disjoint",
                      "a chunk's entry is seen when its text no more is, or from its last token on",
                      At(&HcaConfig::visibility)),
            KeyAt("hca.independent_kv",
                  KeyType::Truth(),
                  "true",
                  "entries are pooled from projections of their own, else from the text's keys and values",
                  At(&HcaConfig::independent_kv)),
            NameKeyAt("hca.gate",
                      {"shared", "separate"},
                      "shared",
                      "one gate weighs the rows of a chunk for keys and values, or one each",
                      At(&HcaConfig::gate)),
            KeyAt("hca.value_norm",
                  KeyType::Truth(),
                  "true",
                  "RMS norm of the pooled values, by head",
                  At(&HcaConfig::value_norm))};
  }

  [[nodiscard]] std::vector<EntryField> EntryFields() const override {
    return WithAttentionFields({{kWindow, KeyType::Integer(0)}});
  }

  [[nodiscard]] LayerSpec MakeLayer(const ModelConfig& config, const EntryValues& entry) const override {
    const HcaConfig& hca = config.mixers.Of<HcaConfig>();
    return HcaLayer(NumberOf(entry, kWindow).value_or(hca.window_chunks), hca.visibility, OptionsOf(config, entry));
  }

  [[nodiscard]] EntryValues EntryOf(const ModelConfig& config, const Mixer& mixer) const override {
    const int32_t window = WindowOf(mixer).chunks;
    const bool is_default = config.mixers.Of<HcaConfig>().window_chunks == window;
    return WithAttentionEntry(config, mixer, is_default ? EntryValues() : EntryValues{{kWindow, int64_t{window}}});
  }

  [[nodiscard]] std::optional<ChunkKey> Chunk(const ModelConfig& config) const override {
    return ChunkKey{kChunkSize, config.mixers.Of<HcaConfig>().chunk_size};
  }

  [[nodiscard]] std::optional<int64_t> TextWindow(const ModelConfig& config) const override {
    const HcaConfig& hca = config.mixers.Of<HcaConfig>();
    return int64_t{1} * hca.chunk_size * hca.window_chunks;
  }

  [[nodiscard]] std::vector<MixerProblem> Problems(const MixerDraft& draft) const override {
    if (!Uses(draft, name()) || !Uses(draft, "ksa")) {
      return {};
    }
    const std::string pattern = FullPath("pattern");
    return {
        {{pattern},
         {pattern},
         "ksa and hca in one pattern: text rows alone have no place beside summary rows; use one of them, and compare "
         "two runs"}};
  }

  [[nodiscard]] std::vector<std::string> Warnings(const ModelConfig& config, int32_t sequence_length) const override {
    const int32_t k = config.mixers.Of<HcaConfig>().chunk_size;
    const SummaryLayout layout = {.text_tokens = sequence_length, .chunk_size = k};
    int32_t smallest = AttentionWindow::kUnlimited;
    bool live = false;
    for (const LayerSpec& layer : config.layers) {
      if (&layer->kind() == this) {
        smallest = std::min(smallest, WindowOf(*layer).chunks);
        live = live || LiveChunks(layout, WindowOf(*layer)) > 0;
      }
    }
    if (live || smallest == AttentionWindow::kUnlimited) {
      return {};
    }
    return {
        fmt::format("model.attention: no entry is live: a sequence of {} tokens has {} chunks of {}, and the smallest "
                    "window_chunks "
                    "of the hca layers is {}, so text sees no entry; use a smaller window_chunks or chunk_size, or "
                    "longer sequences",
                    sequence_length,
                    layout.chunks(),
                    k,
                    smallest)};
  }
};

}  // namespace

const MixerKind& HcaKind() {
  static const Hca kKind;
  return kKind;
}

LayerSpec HcaLayer(int32_t window_chunks, HcaVisibility visibility, const AttentionOptions& options) {
  return LayerSpec(std::make_shared<HcaMixer>(
      HcaKind(), AttentionWindow::Hca(window_chunks, visibility == HcaVisibility::kOverlap), options));
}

}  // namespace ksa
