#include "model/mixers/mla/mla.h"

#include <algorithm>
#include <string>

#include <fmt/core.h>

#include "model/mixers/mla/mla_mixer.h"

namespace ksa {
namespace {

constexpr const char* kRopeDim = "mla.qk_rope_head_dim";
constexpr int32_t kMostColumns = 1024;  // of a head: what attention takes

template <typename Member>
auto At(Member MlaConfig::*member) {
  return [member](auto& config) -> auto& {
    return config.mixers.template Of<MlaConfig>().*member;
  };
}

// Whether a layer with this entry has latents.
bool IsLatent(const MixerDraft& draft, const MixerDraft::Used& used) {
  const auto given = used.values.find("projection");
  const bool has_choice = used.kind == "ksa" || used.kind == "full" || used.kind == "swa" || used.kind == "sca";
  const bool by_default = draft.model.mixers.Of<MlaConfig>().projection == Projection::kMla;
  return used.kind == "mla" ||
         (has_choice && (given == used.values.end() ? by_default : std::get<std::string>(given->second) == "mla"));
}

class Mla final : public MixerKind {
 public:
  [[nodiscard]] std::string_view name() const override { return "mla"; }

  [[nodiscard]] std::string_view doc() const override {
    return "all text before it, by keys and values that are expanded from latents: `full` with `projection: mla`";
  }

  [[nodiscard]] std::optional<AnyValue> DefaultSettings() const override { return AnyValue(MlaConfig()); }

  [[nodiscard]] std::vector<MixerKey> Keys() const override {
    return {
        KeyAt("mla.q_lora_rank",
              KeyType::Integer(1).OrNone(),
              "none",
              "columns of the queries' latent; none: queries are projected without one",
              At(&MlaConfig::q_lora_rank)),
        KeyAt("mla.kv_lora_rank",
              KeyType::Integer(1),
              "512",
              "columns of the latent that keys and values are expanded from",
              At(&MlaConfig::kv_lora_rank)),
        KeyAt("mla.qk_nope_head_dim",
              KeyType::Integer(1),
              "128",
              "columns of a head of queries and keys that carry no position",
              At(&MlaConfig::qk_nope_head_dim)),
        KeyAt(kRopeDim,
              KeyType::Integer(2),
              "64",
              "columns that do, of keys the same for all heads; even",
              At(&MlaConfig::qk_rope_head_dim)),
        KeyAt("mla.v_head_dim", KeyType::Integer(1), "128", "columns of a head of values", At(&MlaConfig::v_head_dim))};
  }

  [[nodiscard]] std::vector<EntryField> EntryFields() const override { return WithAttentionFields({}); }

  [[nodiscard]] LayerSpec MakeLayer(const ModelConfig& config, const EntryValues& entry) const override {
    return MlaLayer(OptionsOf(config, entry));
  }

  [[nodiscard]] EntryValues EntryOf(const ModelConfig& config, const Mixer& mixer) const override {
    return WithAttentionEntry(config, mixer, {});
  }

  [[nodiscard]] std::vector<MixerProblem> Problems(const MixerDraft& draft) const override {
    const MlaConfig& mla = draft.model.mixers.Of<MlaConfig>();
    const bool used =
        std::any_of(draft.used.begin(), draft.used.end(), [&](const auto& entry) { return IsLatent(draft, entry); });
    std::vector<MixerProblem> problems;
    if (mla.qk_rope_head_dim % 2 != 0) {
      problems.push_back({{FullPath(kRopeDim)},
                          {FullPath(kRopeDim)},
                          fmt::format("must be even (RoPE turns pairs), got {}", mla.qk_rope_head_dim)});
    }
    const std::string nope = FullPath("mla.qk_nope_head_dim");
    if (used && std::max(mla.key_dim(), mla.v_head_dim) > kMostColumns) {
      const std::string values = FullPath("mla.v_head_dim");
      problems.push_back({{nope, values},
                          {nope, values, FullPath(kRopeDim)},
                          fmt::format("heads of {} and {} columns, but at most {} are taken; use less",
                                      mla.key_dim(),
                                      mla.v_head_dim,
                                      kMostColumns)});
    }
    const bool has_hca =
        std::any_of(draft.used.begin(), draft.used.end(), [](const auto& entry) { return entry.kind == "hca"; });
    if (has_hca && mla.projection == Projection::kMla) {
      const std::string key = FullPath("projection");
      problems.push_back(
          {{key},
           {key, FullPath("pattern")},
           "mla, but hca layers pool keys and values of their own; say it in the entries of other kinds"});
    }
    return problems;
  }
};

}  // namespace

const MixerKind& MlaKind() {
  static const Mla kKind;
  return kKind;
}

LayerSpec WithMla(const MixerKind& kind, const AttentionWindow& window, const AttentionOptions& options) {
  return LayerSpec(std::make_shared<MlaMixer>(kind, window, options));
}

LayerSpec MlaLayer(const AttentionOptions& options) {
  return WithMla(MlaKind(), AttentionWindow::Full(), options);
}

Projection ProjectionOf(const Mixer& mixer) {
  return dynamic_cast<const MlaMixer*>(&mixer) == nullptr ? Projection::kGqa : Projection::kMla;
}

MixerKey ProjectionKey() {
  return NameKeyAt("projection",
                   {"gqa", "mla"},
                   "gqa",
                   "of queries, keys and values: by heads, or of latents as model.attention.mla says",
                   At(&MlaConfig::projection));
}

}  // namespace ksa
