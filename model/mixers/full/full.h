// Full attention: text sees all text before it.
#pragma once

#include "model/mixers/mixer.h"

namespace ksa {

[[nodiscard]] const MixerKind& FullKind();

[[nodiscard]] LayerSpec FullLayer();

}  // namespace ksa
