// Full attention: text sees all text before it.
#pragma once

#include "model/mixers/attention/options.h"
#include "model/mixers/mixer.h"

namespace ksa {

[[nodiscard]] const MixerKind& FullKind();

[[nodiscard]] LayerSpec FullLayer(const AttentionOptions& options = {});

}  // namespace ksa
