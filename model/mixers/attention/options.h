// What a layer of softmax attention may say besides what its text sees, of whatever kind it is: model.attention.rope
// and the like. An entry of the pattern overrides them for its layers.
#pragma once

#include <cstdint>
#include <vector>

#include "model/mixers/keys.h"

namespace ksa {

class Mixer;
struct ModelConfig;

enum class RopeUse : int {
  kDefault,  // queries and keys are rotated by their positions
  kNone,     // and here they are not
};

struct AttentionOptions {
  RopeUse rope = RopeUse::kDefault;
  int32_t short_conv = 0;  // taps of a convolution along the text behind the projections; 0: none

  friend bool operator==(const AttentionOptions&, const AttentionOptions&) = default;
};

// The keys that say them for all layers, and the fields of an entry of the pattern, behind those of the kind's own.
[[nodiscard]] std::vector<MixerKey> AttentionOptionKeys();
// WithProjection: of kinds whose layers may be of latents (model/mixers/mla).
[[nodiscard]] std::vector<EntryField> WithAttentionFields(std::vector<EntryField> own);
[[nodiscard]] std::vector<EntryField> WithProjection(std::vector<EntryField> own);

// Of a layer with this entry.
[[nodiscard]] AttentionOptions OptionsOf(const ModelConfig& config, const EntryValues& entry);

// The shortest entry that gives the options of `mixer`, an attention layer, again; `own`: the kind's own fields.
[[nodiscard]] EntryValues WithAttentionEntry(const ModelConfig& config, const Mixer& mixer, EntryValues own);

}  // namespace ksa
