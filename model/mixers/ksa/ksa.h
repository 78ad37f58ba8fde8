// Kwai Summary Attention: text sees the text of its chunk window and the summaries of all chunks before it.
#pragma once

#include "model/mixers/attention/options.h"
#include "model/mixers/mixer.h"

namespace ksa {

[[nodiscard]] const MixerKind& KsaKind();

[[nodiscard]] LayerSpec KsaLayer(int32_t window_chunks, const AttentionOptions& options = {});

}  // namespace ksa
