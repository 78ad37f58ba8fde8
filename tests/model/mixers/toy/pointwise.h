// The worked example of CONTRIBUTING.md, "A layer kind": y_t = O·I·x_t, a row by itself. What it mixes is nothing,
// which keeps the example short; everything that a kind has to say is here.
#pragma once

#include "model/mixers/mixer.h"

namespace ksa::testing {

// model.attention.pointwise
struct PointwiseConfig {
  int32_t columns = 8;  // of layers that don't override it

  friend bool operator==(const PointwiseConfig&, const PointwiseConfig&) = default;
};

[[nodiscard]] const MixerKind& PointwiseKind();

[[nodiscard]] LayerSpec PointwiseLayer(int32_t columns);

}  // namespace ksa::testing
