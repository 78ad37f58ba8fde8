// Where a kind of layer has to be besides its own folder, so that nothing about it is untested or untold.
#pragma once

#include <string>
#include <vector>

#include "model/mixers/mixer.h"

namespace ksa::testing {

// What the kind is missing from, one line each; empty: nothing. The working directory is the source root.
[[nodiscard]] std::vector<std::string> MissingOf(const MixerKind& kind);

}  // namespace ksa::testing
