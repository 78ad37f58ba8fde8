#include "model/mixers/gdn/gdn.h"

#include <algorithm>
#include <memory>
#include <string>

#include <fmt/core.h>

#include "kernels/short_conv/short_conv.h"
#include "model/mixers/gdn/gdn_mixer.h"

namespace ksa {
namespace {

constexpr const char* kKeyHeads = "gdn.linear_num_key_heads";
constexpr const char* kValueHeads = "gdn.linear_num_value_heads";
constexpr const char* kKeyDim = "gdn.linear_key_head_dim";
constexpr const char* kValueDim = "gdn.linear_value_head_dim";
constexpr int32_t kMostColumns = 1024;  // of a head: a state is its key columns times its value columns

template <typename Member>
auto At(Member GdnConfig::*member) {
  return [member](auto& config) -> auto& {
    return config.mixers.template Of<GdnConfig>().*member;
  };
}

bool Uses(const MixerDraft& draft, std::string_view kind) {
  return std::any_of(draft.used.begin(), draft.used.end(), [&](const auto& entry) { return entry.kind == kind; });
}

// What `key`, which holds for layers of attention, says beside gdn layers.
MixerProblem NotOfGdn(const std::string& path, const std::string& says) {
  const std::string key = FullPath(path);
  return {{key}, {key, FullPath("pattern")}, says + "; say it in the entries of other kinds"};
}

class Gdn final : public MixerKind {
 public:
  [[nodiscard]] std::string_view name() const override { return "gdn"; }

  [[nodiscard]] std::string_view doc() const override {
    return "a state of fixed size that all earlier text of its document has written to (Gated DeltaNet)";
  }

  [[nodiscard]] std::optional<AnyValue> DefaultSettings() const override { return AnyValue(GdnConfig()); }

  [[nodiscard]] std::vector<MixerKey> Keys() const override {
    return {KeyAt(kKeyHeads, KeyType::Integer(1), "16", "heads of queries and keys", At(&GdnConfig::key_heads)),
            KeyAt(kValueHeads,
                  KeyType::Integer(1),
                  "16",
                  "heads of values and of states; a multiple of linear_num_key_heads",
                  At(&GdnConfig::value_heads)),
            KeyAt(kKeyDim,
                  KeyType::Integer(1, kMostColumns),
                  "128",
                  "columns of a head of queries and keys",
                  At(&GdnConfig::key_head_dim)),
            KeyAt(kValueDim,
                  KeyType::Integer(1, kMostColumns),
                  "128",
                  "columns of a head of values",
                  At(&GdnConfig::value_head_dim)),
            KeyAt("gdn.linear_conv_kernel_dim",
                  KeyType::Integer(2, kMostConvTaps),
                  "4",
                  "taps of the convolutions of queries, keys and values along the text",
                  At(&GdnConfig::conv_taps)),
            KeyAt("gdn.linear_allow_neg_eigval",
                  KeyType::Truth(),
                  "false",
                  "how much a token writes goes up to 2, not 1: the state may turn around along a key",
                  At(&GdnConfig::allow_neg_eigval))};
  }

  [[nodiscard]] LayerSpec MakeLayer(const ModelConfig& /*config*/, const EntryValues& /*entry*/) const override {
    return GdnLayer();
  }

  [[nodiscard]] std::vector<MixerProblem> Problems(const MixerDraft& draft) const override {
    std::vector<MixerProblem> problems;
    const GdnConfig& gdn = draft.model.mixers.Of<GdnConfig>();
    if (gdn.value_heads % gdn.key_heads != 0) {
      problems.push_back(
          {{FullPath(kValueHeads), FullPath(kKeyHeads)},
           {FullPath(kValueHeads), FullPath(kKeyHeads)},
           fmt::format(
               "{} is no multiple of linear_num_key_heads {}; use a multiple of it", gdn.value_heads, gdn.key_heads)});
    }
    if (!Uses(draft, name())) {
      return problems;
    }
    if (draft.model.attention.rope == RopeUse::kNone) {
      problems.push_back(NotOfGdn("rope", "none, but gdn layers have no positions to leave out"));
    }
    if (draft.model.attention.short_conv > 0) {
      problems.push_back(
          NotOfGdn("short_conv",
                   fmt::format("{}, but gdn layers have convolutions of their own (gdn.linear_conv_kernel_dim)",
                               draft.model.attention.short_conv)));
    }
    if (Uses(draft, "ksa") && draft.model.ksa.full_layers == FullLayers::kAttend) {
      const std::string key = FullPath("ksa.full_layers");
      const std::string pattern = FullPath("pattern");
      problems.push_back({{key, pattern},
                          {key, pattern},
                          "attend, but summary rows have no place in the recurrence of gdn layers over text; use "
                          "bypass in a pattern of ksa and gdn"});
    }
    return problems;
  }
};

}  // namespace

const MixerKind& GdnKind() {
  static const Gdn kKind;
  return kKind;
}

LayerSpec GdnLayer() {
  return LayerSpec(std::make_shared<GdnMixer>());
}

}  // namespace ksa
