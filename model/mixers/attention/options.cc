#include "model/mixers/attention/options.h"

#include <algorithm>

#include "kernels/short_conv/short_conv.h"
#include "model/mixers/attention/attention_mixer.h"
#include "model/mixers/mla/mla.h"

namespace ksa {

std::vector<MixerKey> AttentionOptionKeys() {
  return {NameKeyAt(
              "rope",
              {"default", "none"},
              "default",
              "rotary positions of queries and keys; none: no positions",
              [](auto& config) -> auto& { return config.attention.rope; }),
          KeyAt(
              "short_conv",
              KeyType::Integer(2, kMostConvTaps).OrZero(),
              "0",
              "taps of a causal convolution of q, k and v along the text, behind their projections; 0: none",
              [](auto& config) -> auto& { return config.attention.short_conv; })};
}

std::vector<EntryField> WithAttentionFields(std::vector<EntryField> own) {
  for (const MixerKey& key : AttentionOptionKeys()) {
    own.push_back({key.path, key.type});
  }
  return own;
}

std::vector<EntryField> WithProjection(std::vector<EntryField> own) {
  const MixerKey key = ProjectionKey();
  own.push_back({key.path, key.type});
  return own;
}

AttentionOptions OptionsOf(const ModelConfig& config, const EntryValues& entry) {
  ModelConfig layer;
  layer.attention = config.attention;
  for (const MixerKey& key : AttentionOptionKeys()) {
    if (const auto given = entry.find(key.path); given != entry.end()) {
      key.set(layer, given->second);
    }
  }
  return layer.attention;
}

EntryValues WithAttentionEntry(const ModelConfig& config, const Mixer& mixer, EntryValues own) {
  ModelConfig layer;
  layer.attention = OptionsOf(mixer);
  layer.mixers.Of<MlaConfig>().projection = ProjectionOf(mixer);
  std::vector<MixerKey> keys = AttentionOptionKeys();
  const std::vector<EntryField> fields = mixer.kind().EntryFields();
  const MixerKey projection = ProjectionKey();
  if (std::any_of(fields.begin(), fields.end(), [&](const auto& field) { return field.name == projection.path; })) {
    keys.push_back(projection);
  }
  for (const MixerKey& key : keys) {
    if (const KeyValue value = key.get(layer); value != key.get(config)) {
      own[key.path] = value;
    }
  }
  return own;
}

}  // namespace ksa
