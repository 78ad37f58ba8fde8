// What forward passes of layers share where they fill a cache, or read it.
#pragma once

#include "kernels/core/error.h"
#include "model/mixers/decode.h"
#include "model/mixers/mixer.h"

namespace ksa {

// Where the rows of a call stand, for operations that rotate them.
struct RowPositions {
  SummaryLayout layout;
  TensorView table;  // of rotations
};

// `table`: of all positions. Without rotation all rows stand at position 0, where it is the identity.
[[nodiscard]] inline RowPositions PositionsOf(const MixerCall& call, const TensorView& table, bool rotates) {
  if (call.step != nullptr && rotates) {
    return {DecodeStep::Numbered(call.step->rows()), call.step->RopeRows(table)};
  }
  RowPositions positions = {call.layout, table};
  if (!rotates) {
    positions.layout.text_positions = TextPositions::kZero;
    positions.layout.summary_positions = SummaryPositions::kZero;
  }
  return positions;
}

// The cache of a call, of the kind's own type.
template <typename Cache>
[[nodiscard]] Cache& CacheOf(const MixerCall& call) {
  auto* cache = dynamic_cast<Cache*>(call.cache);
  KSA_CHECK(cache != nullptr, "a layer was given the cache of another kind");
  return *cache;
}

}  // namespace ksa
